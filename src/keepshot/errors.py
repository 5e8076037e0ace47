"""One root for everything that a user can set right."""


class KeepshotError(Exception):
    """A user's mistake or a broken input: one line that says what came, what is allowed and what to do."""


class ConfigError(KeepshotError, ValueError):
    """A config key, a command-line value or a combination of settings that is not allowed."""


class DataError(KeepshotError, ValueError):
    """A data file or a row of it that cannot be used."""


class ModelError(KeepshotError, ValueError):
    """A model that cannot be loaded, or that lacks what a method asks of it."""


class RunError(KeepshotError, RuntimeError):
    """A run folder that is missing, incomplete or in the way, or a run that had to stop."""


class DivergedError(RunError):
    """A training whose loss, gradient or weights are no longer finite."""
