"""Triton's interpreter, without what it does again and again to no effect."""

from triton.runtime import interpreter

__all__ = ["patch_once_per_launch"]


def patch_once_per_launch() -> None:
    """Let a launch put NumPy behind the language once for each function, not once for each call of it.

    A call of a function finds everything as the call before left it, and looking through the whole language
    for what is left to do takes two fifths of the time.
    """
    function, patched = interpreter.InterpretedFunction, set()
    launch, call = function.run, function.__call__

    def first_of_all(self, *args, **options):
        patched.clear()  # the end of a launch takes the patches back
        return launch(self, *args, **options)

    def once(self, *args, **options):
        if self.fn in patched:
            return self.rewrite()(*args, **options)
        patched.add(self.fn)
        return call(self, *args, **options)

    function.run, function.__call__ = first_of_all, once
