// Picture and sound by WebRTC. The microphone's track is put in when it is asked for.

export class WebRtcPlayer {
  static name = "WebRTC";

  /** `failed` is called when nothing passes, or no longer. */
  constructor(video, gateway, iceServers, failed) {
    this.video = video;
    this.connection = new RTCPeerConnection({ iceServers });
    this.connection.addTransceiver("video", { direction: "recvonly" });
    this.microphone = this.connection.addTransceiver("audio", { direction: "sendrecv" });
    this.stream = new MediaStream();
    this.connection.ontrack = ({ track }) => {
      this.stream.addTrack(track);
      video.srcObject = this.stream;
      video.play().catch(() => {});
    };
    gateway.addEventListener("answer", ({ detail }) => {
      this.connection.setRemoteDescription({ type: "answer", sdp: detail.sdp }).catch(() => {});
    });
    this.connection.onconnectionstatechange = () => this.connection.connectionState === "failed" && failed();
    this.#offer(gateway);
  }

  async #offer(gateway) {
    await this.connection.setLocalDescription();
    await this.#gathered();
    gateway.send("offer", { sdp: this.connection.localDescription.sdp });
  }

  // Hidden host candidates are never "complete" on a machine without a network: wait a moment only.
  #gathered() {
    return new Promise((resolve) => {
      const done = () => this.connection.iceGatheringState === "complete" && resolve();
      this.connection.addEventListener("icegatheringstatechange", done);
      setTimeout(resolve, this.connection.getConfiguration().iceServers.length ? 1000 : 100);
      done();
    });
  }

  async setMicrophone(track) {
    await this.microphone.sender.replaceTrack(track);
  }

  recordable() {
    return this.stream;
  }

  /** Milliseconds by which sound is heard after its picture; null while unknown. */
  async offset() {
    const shown = {};
    for (const report of (await this.connection.getStats()).values())
      if (report.type === "inbound-rtp") shown[report.kind] = report.estimatedPlayoutTimestamp;
    return shown.video && shown.audio ? shown.video - shown.audio : null;
  }

  close() {
    this.connection.close();
    this.video.srcObject = null;
  }
}
