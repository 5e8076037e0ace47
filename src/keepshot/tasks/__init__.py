"""Examples, tasks and suites: files of the user, the bundled universe, the built-in suite and targets."""
