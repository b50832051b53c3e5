"""The error that a stage reports as a sentence instead of a traceback."""


class StageError(Exception):
    """Something the user can mend: the message names the value, what was expected and what to do next."""


#: Exit status of a process ended by SIGINT, as shells report it.
INTERRUPTED = 130
