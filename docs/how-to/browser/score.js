// Score images in a browser with a file of `patchcore-build export --format onnx`.
// `onnxruntime-web` is the package of that name; its .mjs and .wasm files lie on your own server.
import * as ort from "onnxruntime-web";

ort.env.wasm.numThreads = 1; // more threads need a page that is cross-origin isolated

// Address of FILE.onnx -> a detector. Numbers that are inside of the file need no second address.
export async function loadDetector(address) {
  return ort.InferenceSession.create(address, { executionProviders: ["wasm"] });
}

// A Blob (a file, a camera's frame) -> its pixels, uint8 (1, H, W, 3). Its size must be the file's:
// that of --photo-size, or of the artifact's input. A canvas resizes in another way than PatchCore.
export async function readPixels(blob) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const image = await createImageBitmap(blob, options);
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let plane = 0; plane < 3; plane++) rgb[3 * pixel + plane] = rgba[4 * pixel + plane];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

// Pixels -> score, verdict, and the map (height x width values, row by row).
export async function scorePixels(detector, image) {
  const found = await detector.run({ image });
  const [, height, width] = found.anomaly_map.dims;
  return {
    score: found.score.data[0],
    isAnomalous: Boolean(found.is_anomalous.data[0]),
    map: found.anomaly_map.data,
    height,
    width,
  };
}
