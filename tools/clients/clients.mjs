// Asks `vitral serve` for labels with Hugging Face's client for JavaScript, unchanged:
//
//     npm install @huggingface/inference     (in the folder to run it from)
//     node tools/clients/clients.mjs http://127.0.0.1:8000 assets/images/cat.jpg

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { InferenceClient } = await import(pathToFileURL(require.resolve('@huggingface/inference')));

const [url, path] = process.argv.slice(2);
const data = new Blob([await readFile(path)], { type: 'image/jpeg' });
const client = new InferenceClient().endpoint(url);
const labels = await client.imageClassification({ data });
console.log('@huggingface/inference: imageClassification', labels[0]);
// With an image this client sends the bytes alone, and leaves `parameters` out.
if (labels[0].label !== 'cat' || labels.length !== 5) process.exit(1);
