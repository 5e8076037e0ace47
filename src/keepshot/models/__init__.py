"""Models by name, what each of their numbers is for, and the bundled one."""
