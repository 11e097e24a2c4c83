"""Work in a thread of its own: where its result and its error come out."""

import threading

import pytest

from balacoon_tk.runtime.background import Background


def test_the_result_is_that_of_the_work_however_often_it_is_asked_for():
    background = Background(lambda: threading.current_thread().name, name="worker")
    assert [background.result(), background.result()] == ["worker", "worker"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), StopIteration(3)])
def test_an_error_comes_out_where_the_result_is_taken_and_not_before(error):
    def fail():
        raise error

    background = Background(fail, name="worker")
    background.wait()
    with pytest.raises(type(error)) as caught:
        background.result()
    assert caught.value is error


def test_the_work_runs_while_its_owner_does_something_else_and_leaves_no_thread():
    go = threading.Event()
    background = Background(lambda: go.wait(30), name="worker")
    assert any(thread.name == "worker" and not thread.daemon for thread in threading.enumerate())
    go.set()
    assert background.result()
    assert all(thread.name != "worker" for thread in threading.enumerate())
