"""Frames: what goes in comes out; whatever else arrives is refused with words, without a crash or a hang."""

import os
import socket
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ada_api.environment import Environment
from ada_sim.batch import TimeStep
from ada_sim.channel import Channel, ChannelClosed
from ada_sim.messages import WORLD_FIELDS, Reason, TimestepReader, TimestepWriter, read_refusal, refusal
from ada_sim.observation import specification
from ada_sim.wire import DTYPES, HEADER, ROW, Encoder, Kind, WireError, decode, encode, read_head, take

LIMIT = 1 << 20
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_/0123456789", min_size=1, max_size=24)
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))
)


def joined(buffers) -> bytearray:
    return bytearray(b"".join(bytes(buffer) for buffer in buffers))


def read(frame: bytes):
    head = read_head(frame[: HEADER.size], LIMIT)
    return head, decode(head, memoryview(frame)[HEADER.size :])


def sample() -> bytearray:
    content = {"actions": np.arange(12, dtype=np.int8).reshape(2, 6), "active": np.array([True, False])}
    return joined(encode(Kind.STEP, 7, content))


@given(st.sampled_from(list(Kind)), st.integers(0, 2**64 - 1), st.dictionaries(NAMES, ARRAYS, max_size=8))
def test_what_is_encoded_is_decoded_bit_for_bit(kind, generation, content):
    head, found = read(joined(encode(kind, generation, content)))
    assert (head.kind, head.generation, list(found)) == (kind, generation, list(content))
    for name, array in content.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_the_bytes_of_a_frame_stay_what_they_are():
    frame = joined(encode(Kind.RESET, 3, {"worlds": np.array([5], np.int64)}))
    name = b"worlds".ljust(24, b"\0")
    assert frame == (
        b"ADAS"
        + struct.pack("<HBBIIQ", 3, 3, 0, 60, 1, 3)
        + name
        + struct.pack("<BBH6I", 5, 1, 0, 1, 0, 0, 0, 0, 0)
        + struct.pack("<q", 5)
    )


def changed(offset: int, form: str, value: int) -> bytearray:
    frame = sample()
    struct.pack_into(form, frame, offset, value)
    return frame


ROW_0, ROW_1 = HEADER.size, HEADER.size + ROW.size


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n", "no simulator frame", id="another-protocol"),
        pytest.param(changed(4, "<H", 4), "frame version 4, this side speaks 3", id="another-version"),
        pytest.param(changed(6, "<B", 99), "unknown kind 99", id="unknown-kind"),
        pytest.param(changed(7, "<B", 1), "area 0 of shared memory, there are 0", id="in-memory-that-nobody-shares"),
        pytest.param(changed(8, "<I", LIMIT + 1), "at most 1048576", id="too-long"),
        pytest.param(changed(12, "<I", 65), "announces 65 arrays", id="too-many-arrays"),
        pytest.param(changed(12, "<I", 3), "announces 3 arrays", id="more-arrays-than-room"),
        pytest.param(changed(12, "<I", 1), "more than the arrays need", id="bytes-left-over"),
        pytest.param(changed(ROW_0, "<B", 0), "has the name", id="name-of-nothing"),
        pytest.param(changed(ROW_0, "<B", 200), "has the name", id="name-not-ascii"),
        pytest.param(changed(ROW_0 + 24, "<B", 9), "unknown dtype code 9", id="unknown-dtype"),
        pytest.param(changed(ROW_0 + 25, "<B", 7), "malformed shape", id="too-many-dimensions"),
        pytest.param(changed(ROW_0 + 25, "<B", 1), "malformed shape", id="sides-beyond-the-dimensions"),
        pytest.param(changed(ROW_0 + 26, "<H", 1), "malformed shape", id="padding-not-zero"),
        pytest.param(changed(ROW_0 + 28, "<I", 2**32 - 1), "longer than its frame", id="side-of-four-billion"),
        pytest.param(changed(ROW_1 + 28, "<I", 3), "longer than its frame", id="one-byte-too-long"),
        pytest.param(changed(len(sample()) - 1, "<B", 2), "neither 0 nor 1", id="half-true"),
    ],
)
def test_a_malformed_frame_is_refused_with_what_is_wrong(frame, words):
    with pytest.raises(WireError, match=words):
        read(bytes(frame))


def test_an_array_that_is_there_twice_is_refused():
    frame = joined(encode(Kind.STEP, 0, {"a": np.zeros(1, np.int8), "b": np.zeros(1, np.int8)}))
    frame[HEADER.size + ROW.size] = ord("a")
    with pytest.raises(WireError, match="a is there twice"):
        read(bytes(frame))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param({"a" * 25: np.zeros(1)}, "1 to 24 ASCII", id="long-name"),
        pytest.param({"a": np.zeros(1, "U3")}, "which no frame can hold", id="text"),
        pytest.param({"a": np.zeros((1,) * 7)}, "7 dimensions", id="seven-dimensions"),
        pytest.param({str(n): np.zeros(1) for n in range(65)}, "65 arrays", id="too-many"),
    ],
)
def test_what_no_frame_can_hold_is_not_encoded(content, words):
    with pytest.raises(WireError, match=words):
        encode(Kind.STEP, 0, content)


@pytest.mark.timeout(7200 if os.environ.get("ADA_TEST_LONG") else 300)
def test_thousands_of_mutated_frames_are_decoded_or_refused_and_nothing_else():
    rng = np.random.default_rng(1)
    original = sample()
    refused, frames = 0, 1_000_000 if os.environ.get("ADA_TEST_LONG") else 5000
    for _ in range(frames):
        frame = bytearray(original)
        for _ in range(rng.integers(1, 5)):
            frame[rng.integers(len(frame))] = rng.integers(256)
        cut = rng.integers(HEADER.size, len(frame) + 1) if rng.random() < 0.2 else len(frame)
        try:
            read(bytes(frame[:cut]))
        except WireError as error:
            refused += 1
            assert str(error)
    assert refused > 0.4 * frames


def test_an_array_of_another_shape_than_expected_is_refused():
    _, found = read(bytes(sample()))
    assert take(found, "actions", np.int8, (2, 6)).shape == take(found, "actions", np.int8, (None, 6)).shape
    for wrong in (("other", np.int8, (2, 6)), ("actions", np.uint8, (2, 6)), ("actions", np.int8, (2,))):
        with pytest.raises(WireError, match=wrong[0]):
            take(found, *wrong)


# --- a channel over a socket


@pytest.fixture
def ends():
    listener = socket.create_server(("127.0.0.1", 0))
    here = socket.create_connection(listener.getsockname())
    there, _ = listener.accept()
    listener.close()
    channels = Channel(here, LIMIT), Channel(there, LIMIT)
    for channel in channels:
        channel.set_timeout(10)
    yield channels
    for channel in channels:
        channel.close()


def test_a_frame_goes_through_a_socket(ends):
    content = {f"a{n}": np.full(1000, n, np.float32) for n in range(40)} | {"empty": np.zeros((0, 3), np.int8)}
    ends[0].send(encode(Kind.TIMESTEP, 1, content))
    head, body = ends[1].receive()
    found = decode(head, body)
    assert (head.kind, head.generation) == (Kind.TIMESTEP, 1)
    assert all(np.array_equal(found[name], array) for name, array in content.items())


def test_a_connection_that_ends_within_a_frame_is_closed_not_garbled(ends):
    ends[0].send([bytes(sample()[:40])])
    ends[0].close()
    with pytest.raises(ChannelClosed):
        ends[1].receive()


def test_silence_ends_in_a_timeout(ends):
    ends[1].set_timeout(0.05)
    with pytest.raises(TimeoutError):
        ends[1].receive()


# --- timesteps

ENVIRONMENT = Environment(observation="symbolic")


def timestep(rng, worlds: int) -> TimeStep:
    observation = {
        field.name: rng.integers(0, 5, (worlds, 1, *field.shape)).astype(field.dtype)
        for field in specification(ENVIRONMENT)
    }
    flags = rng.random((3, worlds)) < 0.5
    reward = rng.random((worlds, 1)).astype(np.float32)
    return TimeStep(observation, reward, np.full(worlds, -1, np.int16), *flags)


def received(frame):
    whole = bytes(joined(frame))
    return read_head(whole[: HEADER.size], LIMIT), memoryview(whole)[HEADER.size :]


def through(frame):
    return decode(*received(frame))


def test_fields_of_the_episode_travel_only_for_worlds_whose_episode_started_or_that_went_idle():
    rng = np.random.default_rng(0)
    writer = TimestepWriter(specification(ENVIRONMENT), 1)
    first = timestep(rng, 8)
    assert len(through(writer.frame(first))["rows"]) == 8
    second = timestep(rng, 8)
    sent = through(writer.frame(second))
    expected = np.flatnonzero(second.episode_started | (first.active & ~second.active))
    assert sent["rows"].tolist() == expected.tolist()
    assert sent["e/rules"].shape[0] == len(expected) < 8


def test_a_reader_keeps_its_arrays_and_takes_over_what_was_sent():
    rng = np.random.default_rng(0)
    writer = TimestepWriter(specification(ENVIRONMENT), 1)
    first = timestep(rng, 4)
    reader = TimestepReader(*received(writer.frame(first)), 4)
    own = reader.timestep
    assert all(np.array_equal(own.observation[name], array) for name, array in first.observation.items())
    second = timestep(rng, 4)
    again = reader.read(*received(writer.frame(second)))
    assert again is own
    assert np.array_equal(own.reward, second.reward)
    assert np.array_equal(own.observation["objects"], second.observation["objects"])
    rows = np.flatnonzero(second.episode_started | (first.active & ~second.active))
    assert np.array_equal(own.observation["goal"][rows], second.observation["goal"][rows])


def test_after_a_timestep_without_rows_the_next_is_looked_at_as_closely():
    rng = np.random.default_rng(0)
    writer = TimestepWriter(specification(ENVIRONMENT), 1)
    reader = TimestepReader(*received(writer.frame(timestep(rng, 4))), 4)
    for _ in range(2):
        quiet = replace(timestep(rng, 4), episode_started=np.zeros(4, bool), active=np.ones(4, bool))
        head, body = received(writer.frame(quiet))
        reader.read(head, body)
        assert np.array_equal(reader.timestep.reward, quiet.reward)
    with pytest.raises(WireError, match="1 bytes more than the arrays need"):
        reader.read(replace(head, length=head.length + 1), memoryview(bytes(body) + b"x"))
    loud = replace(timestep(rng, 4), episode_started=np.ones(4, bool))
    sent = through(writer.frame(loud))
    with pytest.raises(WireError, match="must be 0 to 3"):
        reader.read(*received(encode(Kind.TIMESTEP, 1, {**sent, "rows": sent["rows"] + 1})))
    reader.read(*received(encode(Kind.TIMESTEP, 1, sent)))
    assert np.array_equal(reader.timestep.observation["goal"], loud.observation["goal"])


@pytest.mark.parametrize("name", ["reward", "rows", "o/objects", "e/goal"])
def test_a_timestep_that_lacks_an_array_changes_nothing(name):
    rng = np.random.default_rng(0)
    writer = TimestepWriter(specification(ENVIRONMENT), 1)
    reader = TimestepReader(*received(writer.frame(timestep(rng, 4))), 4)
    before = reader.timestep.reward.copy()
    sent = through(writer.frame(timestep(rng, 4)))
    del sent[name]
    with pytest.raises(WireError, match=name):
        reader.read(*received(encode(Kind.TIMESTEP, 1, sent)))
    assert np.array_equal(reader.timestep.reward, before)


def test_a_timestep_with_rows_beyond_the_worlds_is_refused():
    rng = np.random.default_rng(0)
    writer = TimestepWriter(specification(ENVIRONMENT), 1)
    reader = TimestepReader(*received(writer.frame(timestep(rng, 4))), 4)
    sent = through(writer.frame(timestep(rng, 4)))
    sent["rows"] = np.array([4])
    sent |= {name: array[:1] for name, array in sent.items() if name.startswith("e/")}
    with pytest.raises(WireError, match="must be 0 to 3"):
        reader.read(*received(encode(Kind.TIMESTEP, 1, sent)))


def test_a_timestep_whose_arrays_come_in_another_order_is_refused():
    rng = np.random.default_rng(0)
    writer = TimestepWriter(specification(ENVIRONMENT), 1)
    reader = TimestepReader(*received(writer.frame(timestep(rng, 4))), 4)
    sent = through(writer.frame(timestep(rng, 4)))
    sent = {"active": sent.pop("active"), **sent}
    with pytest.raises(WireError, match="another order than at first"):
        reader.read(*received(encode(Kind.TIMESTEP, 1, sent)))


def test_a_first_timestep_with_a_field_after_the_rows_is_refused():
    sent = through(TimestepWriter(specification(ENVIRONMENT), 1).frame(timestep(np.random.default_rng(0), 4)))
    sent["o/body"] = sent.pop("o/body")
    with pytest.raises(WireError, match="o/body comes after rows"):
        TimestepReader(*received(encode(Kind.TIMESTEP, 1, sent)), 4)


def test_every_array_of_a_timestep_is_read_as_it_was_written_whatever_the_number_of_worlds():
    rng = np.random.default_rng(0)
    for worlds in (1, 2, 3, 5, 64, 129):
        writer = TimestepWriter(specification(ENVIRONMENT), 1)
        reader = TimestepReader(*received(writer.frame(timestep(rng, worlds))), worlds)
        sent = timestep(rng, worlds)
        found = reader.read(*received(writer.frame(sent)))
        for name in WORLD_FIELDS:
            assert np.array_equal(getattr(found, name), getattr(sent, name))
        for field in specification(ENVIRONMENT):
            if not field.per_episode:
                array = found.observation[field.name]
                assert np.array_equal(array, sent.observation[field.name])
                assert array.flags.aligned, "else reading it is slow"


def test_an_array_that_changed_where_it_lies_is_sent_anew():
    encoder, array = Encoder(), np.zeros((2, 3), np.int8)
    for layout in (array, array.T, array[:, ::2]):
        for number in range(3):
            array[:] = number
            found = through(encoder.encode(Kind.STEP, 0, {"actions": layout}))["actions"]
            assert found.shape == layout.shape and (found == number).all()


def test_a_refusal_says_why():
    _, found = read(bytes(joined(refusal(1, Reason.TOKEN, "wrong token"))))
    assert read_refusal(found) == (Reason.TOKEN, "wrong token")
