// A session from Node, by docs/protocol.md, with a stub that is generated from Triton's service:
//
//   npm ci && python write_service.py triton.protoset
//   node session.js triton.protoset IMAGE SPEECH.wav OUT_FOLDER [HOST:PORT]
//
// IMAGE is a PNG, JPEG, WebP, AVIF, BMP or GIF. SPEECH.wav has 16 kHz, mono, 16 bits, and a header
// of 44 bytes. OUT_FOLDER gets a picture (PPM) for each frame, 25 a second.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

const [service, image, speech, out, url = "127.0.0.1:8001"] = process.argv.slice(2);
if (!out) {
  console.error("usage: node session.js triton.protoset IMAGE SPEECH.wav OUT_FOLDER [HOST:PORT]");
  process.exit(2);
}
const PIECE = 2 * 8000; // bytes of half a second, which is what a request takes here
const MOST = { "grpc.max_receive_message_length": -1 };

const description = loadFileDescriptorSetFromBuffer(readFileSync(service), {
  keepCase: true,
  longs: Number,
  arrays: true,
});
const { GRPCInferenceService } = loadPackageDefinition(description).inference;
const client = new GRPCInferenceService(url, credentials.createInsecure(), MOST);
const stream = client.ModelStreamInfer();

const sound = readFileSync(speech).subarray(44);
const count = Math.ceil(sound.length / PIECE);
const session = Date.now();
let unanswered = count;
mkdirSync(out, { recursive: true });

function fail(words) {
  console.error(words);
  process.exitCode = 1;
  stream.cancel();
  client.close();
}

function save(answer) {
  const { outputs, raw_output_contents: raw } = answer;
  const at = (name) => outputs.findIndex((output) => output.name === name);
  const [frames, height, width] = outputs[at("frames")].shape;
  const first = Number(raw[at("frame_index")].readBigInt64LE());
  const size = 3 * height * width;
  for (let n = 0; n < frames; n++) {
    const rgb = raw[at("frames")].subarray(n * size, (n + 1) * size);
    const picture = Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), rgb]);
    writeFileSync(join(out, `${`${first + n}`.padStart(6, "0")}.ppm`), picture);
  }
}

stream.on("error", (error) => process.exitCode || fail(error.message));
stream.on("data", ({ error_message, infer_response }) => {
  if (error_message) return fail(error_message);
  if (infer_response.outputs.some(({ name }) => name === "frames")) return save(infer_response);
  unanswered -= 1; // every request ends with an empty answer
  if (unanswered === 0) stream.end();
});
stream.on("end", () => client.close());

for (let n = 0; n < count; n++) {
  const piece = sound.subarray(n * PIECE, (n + 1) * PIECE);
  const inputs = [{ name: "audio_int16", datatype: "INT16", shape: [piece.length / 2] }];
  const contents = [piece];
  if (n === 0) {
    const picture = readFileSync(image);
    inputs.push({ name: "image", datatype: "UINT8", shape: [picture.length] });
    contents.push(picture);
  }
  stream.write({
    model_name: "live_avatar",
    // A map is a list of its entries here: so it is on the wire, and so the loader has it.
    parameters: [
      { key: "sequence_id", value: { int64_param: session } },
      { key: "sequence_start", value: { bool_param: n === 0 } },
      { key: "sequence_end", value: { bool_param: n === count - 1 } },
      { key: "triton_enable_empty_final_response", value: { bool_param: true } },
    ],
    inputs,
    raw_input_contents: contents,
  });
}
