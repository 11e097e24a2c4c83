"""What the tests of commands look at."""

import io
import re

__all__ = ["Terminal", "assert_one_line_error"]


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self):
        return True


def assert_one_line_error(result, message, status=1):
    assert result.status == status
    assert result.out == b""
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err
    if status == 1:
        errors = [line for line in result.err.splitlines() if "error:" in line]
        assert len(errors) == 1
        assert errors[0].startswith("balacoon-tk: error: ")
    else:
        assert result.err.startswith("usage: ")
