"""Code blocks of the documentation are parsed, its configs load, its links lead somewhere, its examples run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import keepshot
from keepshot.config import load_config
from keepshot.runs.comparison_config import load_comparison
from keepshot.runs.confounds_config import load_confounds
from keepshot.runs.patterns_config import load_patterns
from keepshot.strategies import resolve_method

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted(
    info.name for info in pkgutil.walk_packages(keepshot.__path__, "keepshot.") if not info.name.endswith("__main__")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page, "python"):
        assert compile(block, page.name, "exec") is not None


def test_configs_of_the_readme_load() -> None:
    configs = [YAML(typ="safe", pure=True).load(block) for block in blocks(ROOT / "README.md", "yaml")]
    loaded = [load_config(config) for config in configs if "model" in config]
    assert [config.model for config in loaded] == ["mini", "org/your-model"]


def test_methods_page_writes_methods_that_resolve() -> None:
    lines = "\n".join(blocks(ROOT / "docs" / "methods.md", "yaml"))
    parts = [part for part in re.split(r"^(?=method:)", lines, flags=re.MULTILINE) if part]
    written = [YAML(typ="safe", pure=True).load(part)["method"] for part in parts]
    names = [resolve_method(method)[0] for method in written]
    assert names[0] == resolve_method("auto")[0]
    assert names[1:] == [
        "value",
        "value+icl-mix",
        "value+icl-mix",
        "pattern+icl-mix",
        "roles",
        "lora",
        "custom",
        "full+wise-ft",
    ]


def test_recipes_load() -> None:
    recipes = sorted((ROOT / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        keys = YAML(typ="safe", pure=True).load(recipe)
        if recipe.name.startswith("confounds"):
            assert list(load_confounds(recipe).cells())
        elif "tasks" in keys:
            assert list(load_patterns(recipe).cells())
        elif "methods" in keys:
            assert load_comparison(recipe).methods
        else:
            assert load_config(recipe).strategy()[0]


def test_the_large_recipe_counts_its_trainings() -> None:
    recipe = ROOT / "recipes" / "patterns-large.yaml"
    part = ["tasks=[boolean]", "examples=[32, 4000]", "steps=[300]"]
    assert [
        f"{len(list(load_patterns(recipe, some).cells())):,} trainings" in recipe.read_text() for some in ([], part)
    ] == [True, True]


def test_the_config_of_the_patterns_page_loads() -> None:
    [config] = [YAML(typ="safe", pure=True).load(block) for block in blocks(ROOT / "docs" / "patterns.md", "yaml")]
    assert len(list(load_patterns(config).cells())) == 2 * (2 + 1 + 1 + 2) * 2 * 3


def test_every_public_name_is_there() -> None:
    assert all(getattr(keepshot, name) is not None for name in keepshot.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0
