// The visitor's microphone: asked for once, opened and shut by its track.

const WISHES = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const WORDS = {
  NotAllowedError: "The browser may not use the microphone: allow it in the address bar, then try again.",
  NotFoundError: "There is no microphone: plug one in, then try again.",
  NotReadableError: "Another program holds the microphone: close it, then try again.",
};

export class Microphone {
  track = null;

  /** The track; an Error in words where there is none to be had. */
  async ask() {
    if (this.track?.readyState === "live") return this.track;
    if (!navigator.mediaDevices?.getUserMedia)
      throw new Error("Browsers give the microphone to secure pages only: open this page by https, or as http://localhost.");
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: WISHES });
      this.track = stream.getAudioTracks()[0];
    } catch (error) {
      throw new Error(WORDS[error.name] ?? `The microphone can't be used: ${error.message}`);
    }
    this.#measure();
    return this.track;
  }

  /** 0 to 1. */
  level() {
    if (!this.analyser || !this.track?.enabled) return 0;
    this.analyser.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, value) => sum + value * value, 0) / this.samples.length;
    return Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-9) / 5)); // -50 dB is nothing
  }

  stop() {
    this.track?.stop();
    this.context?.close();
    this.track = this.analyser = this.context = null;
  }

  #measure() {
    this.context = new AudioContext();
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.samples = new Float32Array(this.analyser.fftSize);
    this.context.createMediaStreamSource(new MediaStream([this.track])).connect(this.analyser);
  }
}
