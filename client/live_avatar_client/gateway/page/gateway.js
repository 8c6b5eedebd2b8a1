// The WebSocket of one visit. Messages become events by their type; "bytes" is fragmented MP4.

const SILENCE_MS = 3000; // the gateway says something every second

export class Gateway extends EventTarget {
  constructor() {
    super();
    const address = new URL("session", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = location.search; // the token
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.#take(event.data);
    this.socket.onclose = () => this.#lose("The connection to the gateway is lost.");
    this.heard = performance.now();
    this.watch = setInterval(() => this.#check(), 500);
  }

  send(type, fields = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  /** Samples of a microphone, int16 mono. */
  sendSamples(samples) {
    const waits = this.socket.bufferedAmount > 100_000; // a second behind: better a gap than a lag
    if (this.socket.readyState === WebSocket.OPEN && !waits) this.socket.send(samples);
  }

  /** Hand in a file as the "portrait" or as "sound"; an Error says why it was not taken. */
  async upload(what, file) {
    const answer = await fetch(`visits/${this.visit}/${what}`, { method: "POST", body: file });
    if (answer.ok) return;
    const told = answer.status === 413 ? "the file is larger than 32 MiB" : (await answer.json().catch(() => ({}))).words;
    throw new Error(told ?? `the file was not taken (${answer.status})`);
  }

  close() {
    clearInterval(this.watch);
    this.socket.onclose = this.socket.onmessage = null;
    this.send("end");
    this.socket.close();
  }

  #take(data) {
    this.heard = performance.now();
    if (typeof data !== "string") return this.#say("bytes", data);
    const message = JSON.parse(data);
    if (message.type === "hello") this.visit = message.visit;
    if (message.type === "ended") return this.#lose(message.why);
    this.#say(message.type, message);
  }

  #check() {
    if (performance.now() - this.heard > SILENCE_MS) this.#lose("The gateway has fallen silent.");
  }

  #lose(why) {
    this.close();
    this.#say("ended", { why });
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
