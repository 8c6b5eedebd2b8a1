"""A face in a Pipecat pipeline, without any account: a file plays the agent, a film the visitor.

    python examples/pipecat_agent.py --image examples/portrait.png --audio examples/speech.flac

In a real agent, text-to-speech stands before the face and `transport.output()` behind it.
"""

import argparse
import asyncio

import numpy as np
from pipecat.frames import frames
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from live_avatar_client import VideoWriter, read_audio
from live_avatar_client.agents.pipecat import LiveAvatarService


class Film(FrameProcessor):
    """Stands where the transport stands, and writes what a visitor would see and hear."""

    def __init__(self, writer: VideoWriter) -> None:
        super().__init__()
        self.writer, self.sound = writer, np.zeros(640, np.int16)

    async def process_frame(self, frame: frames.Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, frames.SpeechOutputAudioRawFrame):
            self.sound = np.frombuffer(frame.audio, np.int16)
        if isinstance(frame, frames.OutputImageRawFrame):
            picture = np.frombuffer(frame.image, np.uint8).reshape(1, *frame.size[::-1], 3)
            self.writer.write(picture, self.sound)
        await self.push_frame(frame, direction)


async def agent(worker: PipelineWorker, path: str) -> None:
    """Speech comes in a burst, as from text-to-speech, and somebody talks over it."""
    samples = [(32767 * chunk).astype(np.int16).tobytes() for chunk in read_audio(path)]
    speech = [frames.TTSAudioRawFrame(piece, 16_000, 1) for piece in samples]
    await worker.queue_frames([*speech, frames.TTSStoppedFrame()])
    await asyncio.sleep(4)
    await worker.queue_frame(frames.InterruptionFrame())
    await asyncio.sleep(1)
    await worker.queue_frames([*speech[:20], frames.TTSStoppedFrame(), frames.EndFrame()])


async def main(args: argparse.Namespace) -> None:
    with VideoWriter(args.out, sound_rate=16_000, scale=None) as writer:
        face = LiveAvatarService(image=args.image, url=args.url)
        worker = PipelineWorker(Pipeline([face, Film(writer)]), enable_rtvi=False)
        runner = WorkerRunner()
        await runner.add_workers(worker)
        await asyncio.gather(runner.run(), agent(worker, args.audio))
        print(face.face.statistics())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="the face")
    parser.add_argument("--audio", required=True, help="what the agent says")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the server's gRPC")
    parser.add_argument("--out", default="agent.mp4", help="the video to write (agent.mp4)")
    asyncio.run(main(parser.parse_args()))
