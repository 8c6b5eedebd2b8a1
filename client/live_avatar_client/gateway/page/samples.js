// An AudioWorklet: the microphone as int16 samples, 20 ms at once.

class Samples extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round(sampleRate / 50);
    this.samples = new Int16Array(this.size);
    this.count = 0;
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.samples[this.count++] = Math.max(-1, Math.min(1, value)) * 32767;
      if (this.count < this.size) continue;
      this.port.postMessage(this.samples.buffer, [this.samples.buffer]);
      this.samples = new Int16Array(this.size);
      this.count = 0;
    }
    return true;
  }
}

registerProcessor("samples", Samples);
