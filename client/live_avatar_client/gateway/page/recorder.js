// What is shown, with its sound, as a file.

export class Recorder {
  start(stream) {
    const chunks = [];
    const kind = ["video/mp4;codecs=avc1,opus", "video/webm"].find((kind) => MediaRecorder.isTypeSupported(kind));
    this.recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond: 2_500_000 });
    this.recorder.ondataavailable = ({ data }) => chunks.push(data);
    this.recorder.onstop = () => this.#save(new Blob(chunks, { type: kind }), kind.startsWith("video/mp4") ? "mp4" : "webm");
    this.recorder.start(1000);
  }

  get isRunning() {
    return this.recorder?.state === "recording";
  }

  stop() {
    if (this.isRunning) this.recorder.stop();
  }

  #save(blob, ending) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `live-avatar-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
