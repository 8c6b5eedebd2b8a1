"""A session without our client: NVIDIA's tritonclient alone, by docs/protocol.md."""

import argparse
import queue
import time
import wave
from pathlib import Path

import numpy as np
from tritonclient import grpc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("image", help="the face: PNG, JPEG, WebP, AVIF, BMP, GIF")
parser.add_argument("audio", help="the speech: a WAV file of 16 kHz, mono, 16 bits")
parser.add_argument("--out", default="frames", help="a folder for pictures, 25 a second (frames)")
parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
args = parser.parse_args()
with wave.open(args.audio) as file:
    sound = np.frombuffer(file.readframes(file.getnframes()), np.int16)
picture = np.fromfile(args.image, np.uint8)
image = grpc.InferInput("image", picture.shape, "UINT8").set_data_from_numpy(picture)
Path(args.out).mkdir(parents=True, exist_ok=True)
pieces = np.split(sound, range(8000, len(sound), 8000))  # half a second in a request
answers, unanswered, session = queue.Queue(), len(pieces), time.time_ns()
with grpc.InferenceServerClient(args.url) as client:
    client.start_stream(lambda result, error: answers.put((result, error)))
    for n, piece in enumerate(pieces, 1):
        audio = grpc.InferInput("audio_int16", piece.shape, "INT16").set_data_from_numpy(piece)
        flags = {"sequence_start": n == 1, "sequence_end": n == len(pieces)}
        flags |= {"sequence_id": session, "enable_empty_final_response": True}
        client.async_stream_infer("live_avatar", [audio, image] if n == 1 else [audio], **flags)
    while unanswered:  # every request ends with an empty answer, or an error
        result, error = answers.get(timeout=60)
        assert error is None, error
        if (frames := result.as_numpy("frames")) is None:
            unanswered -= 1
        else:
            for n, rgb in enumerate(frames, result.as_numpy("frame_index")[0]):
                ppm = b"P6 %d %d 255\n" % rgb.shape[1::-1] + rgb.tobytes()
                Path(args.out, f"{n:06}.ppm").write_bytes(ppm)
