"""The thread in which kopf watches."""

import getpass
import time

from ada_operator.handlers import Watch, build_registry


def test_the_watches_begin_where_the_user_has_no_name(monkeypatch, tmp_path, caplog):
    """The images run as a number that no list of users knows."""

    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", no_name)
    caplog.set_level("INFO")
    watch = Watch(build_registry(str(tmp_path / "nowhere"), lambda seen: None), [])
    watch.start()
    give_up = time.monotonic() + 30
    while "authentication" not in caplog.text and "the watches ended" not in caplog.text:
        assert time.monotonic() < give_up, caplog.text
        time.sleep(0.05)
    watch.stop()
    assert "authentication" in caplog.text
    assert "getpwuid" not in caplog.text
