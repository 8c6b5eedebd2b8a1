// Picture and sound as fragmented MP4 from the WebSocket: where UDP does not pass.

const BUFFER_S = 0.18; // what is kept between the live edge and the moment that is shown: at least,
const MOST_S = 0.4;
const MORE_S = 0.06; // so much more after every time at which it was not enough,
const LESS_S = 0.00004; // and so much less with every fragment, a millisecond in a second
const KEPT_S = 10;
const SourceOfMedia = globalThis.ManagedMediaSource ?? globalThis.MediaSource;

export class Mp4Player {
  static name = "MP4 over WebSocket";
  static isPossible = SourceOfMedia !== undefined;

  constructor(video, gateway) {
    Object.assign(this, { video, gateway, pieces: [], kept: BUFFER_S });
    this.onMp4 = ({ detail }) => this.#begin(detail.mime);
    this.onBytes = ({ detail }) => { this.pieces.push(detail); this.#append(); };
    this.onWaiting = () => {
      if (this.shownAt !== undefined && !video.seeking) this.kept = Math.min(MOST_S, this.kept + MORE_S);
    };
    gateway.addEventListener("mp4", this.onMp4);
    gateway.addEventListener("bytes", this.onBytes);
    video.addEventListener("waiting", this.onWaiting);
  }

  #begin(mime) {
    this.source = new SourceOfMedia();
    this.video.disableRemotePlayback = true;
    this.video.src = URL.createObjectURL(this.source);
    this.source.onsourceopen = () => {
      URL.revokeObjectURL(this.video.src);
      this.buffer = this.source.addSourceBuffer(mime);
      this.buffer.onupdateend = () => { this.#chase(); this.#append(); };
      this.#append();
    };
    this.video.play().catch(() => {});
  }

  #append() {
    if (!this.buffer || this.buffer.updating || this.source.readyState !== "open" || !this.pieces.length) return;
    const old = this.video.currentTime - KEPT_S;
    const begin = this.buffer.buffered.length ? this.buffer.buffered.start(0) : 0;
    if (old > begin + KEPT_S) return this.buffer.remove(0, old);
    this.buffer.appendBuffer(this.pieces.shift());
  }

  /** Stay near the live edge: the faster the further behind, with a jump when far behind. */
  #chase() {
    const { buffered } = this.buffer;
    if (!buffered.length) return;
    this.kept = Math.max(BUFFER_S, this.kept - LESS_S);
    const edge = buffered.end(buffered.length - 1);
    const behind = edge - this.video.currentTime - this.kept;
    if (behind > 1 || this.video.currentTime < buffered.start(0)) this.video.currentTime = edge - this.kept;
    this.video.playbackRate = behind > 0.02 ? 1 + Math.min(0.25, 0.6 * behind) : 1;
    if (this.video.paused) this.video.play().catch(() => {});
  }

  /** The microphone's samples go up by the same WebSocket. */
  async setMicrophone(track) {
    this.worklet?.disconnect();
    this.worklet = null;
    if (!track) return;
    this.context ??= new AudioContext();
    this.module ??= this.context.audioWorklet.addModule(new URL("samples.js", import.meta.url));
    await this.module;
    this.rate = this.context.sampleRate;
    this.worklet = new AudioWorkletNode(this.context, "samples", { numberOfOutputs: 0 });
    this.worklet.port.onmessage = ({ data }) => this.gateway.sendSamples(data);
    this.context.createMediaStreamSource(new MediaStream([track])).connect(this.worklet);
  }

  recordable() {
    return this.video.captureStream?.() ?? this.video.mozCaptureStream?.();
  }

  async offset() {
    return this.shownAt === undefined ? null : this.shownAt;
  }

  /** Called with every picture that is shown: its place beside the sound's clock. */
  shown(metadata) {
    this.shownAt = 1000 * (metadata.mediaTime - this.video.currentTime);
  }

  close() {
    this.gateway.removeEventListener("mp4", this.onMp4);
    this.gateway.removeEventListener("bytes", this.onBytes);
    this.video.removeEventListener("waiting", this.onWaiting);
    this.setMicrophone(null);
    this.context?.close();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
