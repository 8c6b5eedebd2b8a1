// The page: one visit after the other.

import { Gateway } from "./gateway.js";
import { Microphone } from "./microphone.js";
import { Mp4Player } from "./mp4.js";
import { Figures, Pipeline, Shown } from "./panel.js";
import { Portraits } from "./portraits.js";
import { Recorder } from "./recorder.js";
import { WebRtcPlayer } from "./webrtc.js";

const PATIENCE_MS = 4000; // frames leave, and none comes by WebRTC: the other way is taken
const CAPTION_MS = 6000;
const WORDS = {
  choosing: "Choose a face", connecting: "Connecting", queued: "Waiting", idle: "Ready",
  listening: "Listening", speaking: "Speaking", ended: "Ended",
  away: "The server is away, this goes on when it is back",
};

const $ = (id) => document.getElementById(id);
const video = $("video"), stage = $("stage");
const wished = new URLSearchParams(location.search).get("transport");

let gateway = null, player = null, microphone = null, state = {}, captionTimer = 0, patience = 0;
const recorder = new Recorder();
const figures = new Figures($("figures"));
const pipeline = new Pipeline($("pipeline"), $("pipeline-words"));
const shown = new Shown(video, (metadata) => {
  document.body.classList.add("shown");
  player?.shown?.(metadata);
});
const portraits = new Portraits($("portraits"), $("preview"), stage, () => setShow(show()));

const show = () => document.body.dataset.show;

/** "face" or "film": what the visitor chose among what the server has. */
function setShow(name) {
  document.body.dataset.show = name;
  const film = name === "film";
  $("prompt").placeholder = film ? "a lighthouse in the fog" : "a person talks to the camera";
  $("new-prompt").placeholder = film ? "the fog lifts" : "the person smiles";
  $("changing").open = film;
  $("hint").textContent = film ? "Words become a film" : "Drop a portrait here";
  WORDS.choosing = film ? "Describe a film" : "Choose a face";
  WORDS.idle = film ? "Playing" : "Ready";
  if (document.body.dataset.phase === "choosing") setPhase("choosing");
  $("start").disabled = !film && !portraits.isChosen;
}

async function lookAround() {
  const health = await fetch("healthz").then((answer) => answer.json()).catch(() => null);
  if (!health?.ready) notice(sentence(health?.words || "the gateway does not answer"));
  $("shows").hidden = health?.shows?.length !== 2;
  if (health?.shows?.join() === "film") setShow("film");
}

function setPhase(phase, words = WORDS[phase]) {
  document.body.dataset.phase = phase;
  if ($("status").textContent !== words) $("status").textContent = words;
  const live = ["idle", "listening", "speaking", "away"].includes(phase);
  $("choosing").hidden = live || phase === "connecting" || phase === "queued";
  $("controls").hidden = $("choosing").hidden === false;
  for (const control of $("controls").querySelectorAll("button, input")) control.disabled = !live && control.id !== "end";
}

function notice(words) {
  $("notice").textContent = words ?? "";
  $("notice").hidden = !words;
}

function caption(words) {
  clearTimeout(captionTimer);
  $("caption").classList.remove("cut");
  $("caption").textContent = words;
  captionTimer = setTimeout(() => { $("caption").textContent = ""; }, CAPTION_MS + 60 * words.length);
}

// A visit

function start() {
  notice();
  figures.clear(); pipeline.clear(); shown.clear();
  document.body.classList.remove("shown");
  state = {};
  microphone = new Microphone();
  setPhase("connecting");
  gateway = new Gateway();
  const on = (type, heard) => gateway.addEventListener(type, ({ detail }) => heard(detail));
  on("hello", (hello) => begin(hello));
  on("queue", ({ position }) => setPhase("queued", position === 1 ? "Waiting: you are next" : `Waiting: ${position - 1} before you`));
  on("admitted", ({ transport }) => play(transport));
  on("state", (told) => { Object.assign(state, told); showState(); });
  on("block", ({ block, timings_ms }) => { pipeline.add(block, timings_ms); beginPatience(); });
  on("statistics", showFigures);
  on("error", ({ words }) => { notice(sentence(words)); $("caption").textContent = ""; });
  on("ended", ({ why }) => end(why));
}

async function begin(hello) {
  state.ice = hello.ice_servers;
  $("sentence").placeholder = hello.can_say ? "Type what it should say" : "No speech program is installed at the gateway";
  try {
    if (show() === "face" && portraits.file) await gateway.upload("portrait", portraits.file);
  } catch (error) {
    return end(error.message);
  }
  const transport = wished === "mp4" || !globalThis.RTCPeerConnection ? "mp4" : "webrtc";
  const prompt = $("prompt").value.trim() || $("prompt").placeholder;
  const portrait = show() === "face" ? portraits.name : null;
  gateway.send("start", { show: show(), portrait, prompt, transport });
}

function play(transport) {
  if (document.body.dataset.phase === "queued") setPhase("connecting");
  player?.close();
  shown.clear();
  player = transport === "webrtc" ? new WebRtcPlayer(video, gateway, state.ice, changeWay) : new Mp4Player(video, gateway);
  $("transport").textContent = player.constructor.name;
  clearTimeout(patience);
  patience = transport === "webrtc" ? null : 0;
  if (state.open) setMicrophone(true);
}

/** Frames are on their way: by WebRTC, too? */
function beginPatience() {
  if (patience === null) patience = setTimeout(() => shown.count || changeWay(), PATIENCE_MS);
}

function changeWay() {
  clearTimeout(patience);
  if (Mp4Player.isPossible) gateway?.send("transport", { transport: "mp4" });
}

function end(why) {
  clearTimeout(patience);
  recorder.stop();
  microphone?.stop();
  player?.close();
  gateway?.close();
  gateway = player = null;
  state = {};
  showPressed();
  setPhase("ended");
  $("start").textContent = "Start again";
  $("caption").textContent = "";
  document.body.classList.remove("shown");
  notice(why && sentence(why));
}

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");

function showState() {
  if (!state.state) return;
  setPhase(state.state);
  // One's own voice comes back a moment later: without headphones it would be heard as an echo.
  video.muted = state.source === "microphone" && !$("headphones").checked;
}

async function showFigures(told) {
  figures.add("first", told.first_frame_s === null ? null : 1000 * told.first_frame_s);
  figures.add("fps", shown.fps ?? told.sent_fps);
  figures.add("onset", told.onset_s?.p50 ? 1000 * told.onset_s.p50 : null);
  figures.add("jitter", shown.jitter ?? told.jitter_ms);
  figures.add("late", told.held);
  figures.add("offset", player ? await player.offset() : null);
}

// The microphone

async function setMicrophone(on) {
  if (!gateway || !player) return;
  try {
    if (on) await player.setMicrophone(await microphone.ask());
  } catch (error) {
    state.open = false;
    showPressed();
    return notice(error.message);
  }
  if (microphone.track) microphone.track.enabled = on;
  state.open = on;
  gateway.send("microphone", { on, rate: player.rate ?? 48000 });
  showPressed();
}

function showPressed() {
  $("open").setAttribute("aria-pressed", String(Boolean(state.open && !state.held)));
  $("record").setAttribute("aria-pressed", String(recorder.isRunning));
  $("record").textContent = recorder.isRunning ? "Recording" : "Record"; // pressed: it stops
  $("talk").classList.toggle("held", Boolean(state.held));
  $("talk").querySelector("span").textContent = state.held ? "Let go to stop" : "Hold to talk";
}

function hold(on) {
  if (!gateway || $("talk").disabled || state.held === on || (on && state.open)) return;
  if (!on && !state.held) return;
  state.held = on;
  setMicrophone(on);
}

function interrupt() {
  gateway?.send("interrupt");
  if ($("caption").textContent) $("caption").classList.add("cut");
}

async function sendSound(file) {
  try {
    await gateway?.upload("sound", file);
    caption(`♪ ${file.name}`);
  } catch (error) {
    notice(sentence(error.message));
  }
}

// What people press

const submitted = (id, heard) => $(id).addEventListener("submit", (event) => { event.preventDefault(); heard(); });

submitted("choosing", start);
submitted("saying", () => {
  const text = $("sentence").value.trim();
  if (!text) return;
  notice();
  gateway?.send("say", { text });
  caption(text);
  $("sentence").value = "";
});
submitted("prompting", () => {
  const text = $("new-prompt").value.trim();
  if (!text) return;
  notice();
  gateway?.send("prompt", { text });
  caption(`✎ ${text}`);
  $("new-prompt").value = "";
});
$("open").onclick = () => setMicrophone(!state.open);
$("interrupt").onclick = interrupt;
$("end").onclick = () => end("");
$("record").onclick = () => {
  if (recorder.isRunning) recorder.stop();
  else recorder.start(player.recordable());
  showPressed();
};
$("headphones").onchange = showState;
$("file-button").onclick = () => $("sound-file").click();
$("sound-file").onchange = ({ target }) => { if (target.files[0]) sendSound(target.files[0]); target.value = ""; };
$("talk").onpointerdown = (event) => { $("talk").setPointerCapture(event.pointerId); hold(true); };
$("talk").onpointerup = $("talk").onpointercancel = () => hold(false);
stage.addEventListener("file", ({ detail: file }) => {
  if (gateway && !file.type.startsWith("image/")) sendSound(file);
  else if (!gateway) portraits.take(file);
});

const isTyping = (target) => target.closest("input:not([type=checkbox], [type=radio]), textarea") !== null;
const isPress = (target) => target.id !== "talk" && target.closest("button, summary, input, label") !== null;
addEventListener("keydown", (event) => {
  if (event.code === "Escape") return interrupt();
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.code === "Space" && gateway && !isPress(event.target)) {
    event.preventDefault();
    if (!event.repeat) hold(true);
  }
  if (event.code === "KeyM" && gateway && !event.repeat && !$("open").disabled) $("open").click();
});
addEventListener("keyup", (event) => { if (event.code === "Space") hold(false); });
addEventListener("blur", () => hold(false));
addEventListener("pagehide", () => { player?.close(); gateway?.close(); });

// A button that the mouse has pressed gives the space bar back to talking.
addEventListener("click", ({ detail, target }) => { if (detail) target.closest("button")?.blur(); });

(function meter() {
  $("meter").firstElementChild.style.transform = `scaleX(${microphone?.level() ?? 0})`;
  requestAnimationFrame(meter);
})();

for (const choice of document.getElementsByName("show")) choice.onchange = () => setShow(choice.value);
document.body.dataset.phase = "choosing";
setShow("face");
portraits.load();
lookAround();
