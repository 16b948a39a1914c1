"""Cannot be imported."""

print("this must not reach the results of a command")  # noqa: T201

import a_library_that_is_not_installed  # noqa: E402, F401
