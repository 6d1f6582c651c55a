"""Compiled code of older sources does not pile up."""

import os
import time

from ada_sim.engine import KEPT_FOLDERS, KEPT_S, _forget_old


def test_the_newest_folders_and_those_in_use_stay(tmp_path):
    now = time.time()
    for age, name in enumerate("abcdefgh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code").write_text("")
        os.utime(tmp_path / name, (now, now - KEPT_S * age * 0.3))
    _forget_old(tmp_path)
    kept = sorted(folder.name for folder in tmp_path.iterdir())
    assert kept == ["a", "b", "c", "d"]
    assert len(kept) == KEPT_FOLDERS


def test_folders_used_in_this_week_stay_however_many(tmp_path):
    for number in range(3 * KEPT_FOLDERS):
        (tmp_path / str(number)).mkdir()
    _forget_old(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 * KEPT_FOLDERS
