"""gRPC: one bidirectional stream on which actions of 64 worlds go and their pictures come back, as bare bytes."""

import multiprocessing
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import protocol

WORLDS, ACTION_BYTES, PICTURE_BYTES = 64, 6, 72 * 96 * 3
METHOD = "/frames.Frames/Step"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Frames(grpc.GenericRpcHandler):
    """Answers each message with pictures drawn beforehand."""

    def __init__(self):
        self.answers = [random.Random(seed).randbytes(WORLDS * PICTURE_BYTES) for seed in range(4)]

    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(self.step)

    def step(self, questions, context):
        for turn, _ in enumerate(questions):
            yield self.answers[turn % len(self.answers)]


def serve(connection):
    server = grpc.server(ThreadPoolExecutor(2), options=OPTIONS)
    server.add_generic_rpc_handlers((Frames(),))
    connection.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    connection.recv()  # until the client is gone


def main():
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{here.recv()}", options=OPTIONS)
    waiting, gate = [], threading.Semaphore(0)

    def questions():
        while True:
            gate.acquire()
            yield waiting.pop()

    answers = channel.stream_stream(METHOD)(questions())

    def round_trip():
        waiting.append(bytes(WORLDS * ACTION_BYTES))
        gate.release()
        answer = next(answers)
        if len(answer) != WORLDS * PICTURE_BYTES:
            sys.exit(f"gRPC answered with {len(answer)} bytes")

    for _ in range(20):
        round_trip()
    protocol.serve({"round_trips": lambda: protocol.rate(round_trip, 1, 1.0)})


if __name__ == "__main__":
    main()
