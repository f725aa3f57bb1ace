// Uses the page of `vitral serve` in a headless Chromium as a person would, and takes screenshots of it.
//
//     npm install playwright-core @sparticuz/chromium        (in a folder outside the repository)
//     node tools/page/check.mjs target/release/vitral FOLDER [SCREENSHOTS]
//
// FOLDER is where the packages are; `CHROMIUM` names another browser than the package's. Screenshots go to SCREENSHOTS.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { mkdirSync } from 'node:fs';
import assert from 'node:assert/strict';

const [binary, folder, screenshots] = process.argv.slice(2);
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const require = createRequire(pathToFileURL(`${resolve(folder)}/`));
const { chromium } = (await import(pathToFileURL(require.resolve('playwright-core')))).default;
const packed = process.env.CHROMIUM ? null : (await import(pathToFileURL(require.resolve('@sparticuz/chromium')))).default;
const image = name => join(root, 'assets/images', name);

async function serve(...options) {
  const server = spawn(binary, ['serve', '--port', '0', '--json', '--log-level', 'warn', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise(done => server.stdout.once('data', data => done(String(data))));
  const url = JSON.parse(line.split('\n')[0]).http;
  for (let turn = 0; turn < 200 && !(await fetch(`${url}/health`)).ok; turn++) await new Promise(done => setTimeout(done, 50));
  return { url, end: () => server.kill() };
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? await packed.executablePath(),
  // The package's own arguments are for machines without a display server or shared memory, and turn off what is tested.
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  headless: true,
});
if (screenshots) mkdirSync(screenshots, { recursive: true });
let failed = 0;

async function test(name, options, body) {
  const page = await browser.newPage(options);
  const faults = [];
  page.on('pageerror', fault => faults.push(fault.message));
  page.on('console', message => { if (message.type() === 'error' && !/401|415/.test(message.text())) faults.push(message.text()); });
  page.on('request', request => { if (!/^(http:\/\/127\.0\.0\.1|blob:|data:)/.test(request.url())) faults.push(`asked ${request.url()}`); });
  try {
    await body(page);
    assert.deepEqual(faults, []);
    console.log(`ok    ${name}`);
  } catch (fault) {
    failed++;
    console.log(`FAIL  ${name}\n${fault.stack}`);
  }
  await page.close();
}

const shoot = async (page, name) => { if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true }); };
const first = page => page.locator('#labels li .name').first();
const settled = async page => {
  await page.waitForFunction(() => document.querySelector('#meaning').textContent.length > 0);
  await page.waitForLoadState('networkidle');
};

const server = await serve();
try {
  await test('an image is classified, explained and compared', { viewport: { width: 1100, height: 900 } }, async page => {
    await page.goto(server.url);
    await page.locator('#file').setInputFiles([image('automobile.jpg'), image('bird.jpg'), image('cat.jpg')]);
    await page.waitForFunction(() => document.querySelectorAll('#strip button').length === 3);
    await settled(page);
    assert.equal(await first(page).textContent(), 'cat');
    const pixels = () => page.locator('#shown').evaluate(canvas => canvas.toDataURL());
    const last = await pixels();
    await page.locator('#layer').fill('0');
    await page.waitForFunction(before => document.querySelector('#shown').toDataURL() !== before, last);
    const layer = await pixels();
    await page.locator('#head').selectOption('1');
    await page.waitForFunction(before => document.querySelector('#shown').toDataURL() !== before, layer);
    await page.locator('#method').selectOption('gradcam');
    await page.waitForFunction(() => document.querySelector('#meaning').textContent.startsWith('Grad-CAM'));
    await settled(page);
    await shoot(page, 'desktop');
    const before = await pixels();
    await page.locator('#opacity').fill('0');
    assert.notEqual(await pixels(), before);
    await page.locator('#strip button').nth(1).click();
    await page.waitForFunction(() => document.querySelector('#labels .name').textContent !== 'cat');
  });

  await test('a patch is chosen by mouse and by keyboard', {}, async page => {
    await page.goto(server.url);
    await page.locator('#file').setInputFiles(image('cat.jpg'));
    await settled(page);
    await page.locator('#method').selectOption('similarity');
    await page.waitForFunction(() => !document.querySelector('#patch-hint').hidden);
    await settled(page);
    const pixels = () => page.locator('#shown').evaluate(canvas => canvas.toDataURL());
    const middle = await pixels();
    await page.locator('#shown').click({ position: { x: 5, y: 5 } });
    await page.waitForFunction(before => document.querySelector('#shown').toDataURL() !== before, middle);
    const corner = await pixels();
    await page.locator('#shown').focus();
    await page.keyboard.press('ArrowRight');
    await page.waitForFunction(before => document.querySelector('#shown').toDataURL() !== before, corner);
  });

  await test('by keyboard alone', {}, async page => {
    await page.goto(server.url);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'model');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'file');
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press('Space')]);
    await chooser.setFiles(image('bird.jpg'));
    await settled(page);
    assert.equal(await first(page).textContent(), 'bird');
  });

  await test('a file that is not an image gets the words of the decoder', {}, async page => {
    await page.goto(server.url);
    await page.locator('#file').setInputFiles(join(root, 'README.md'));
    await page.waitForFunction(() => document.querySelector('#trouble').textContent.includes('expected an image'));
    await page.locator('#file').setInputFiles(image('cat.jpg'));
    await settled(page);
    assert.equal(await page.locator('#trouble').textContent(), '');
  });

  await test('drop and paste', {}, async page => {
    await page.goto(server.url);
    for (const kind of ['drop', 'paste']) {
      await page.evaluate(async ([kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`, { type: 'image/jpeg' }));
        document.dispatchEvent(kind === 'drop' ? new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })
          : new ClipboardEvent('paste', { clipboardData: data }));
      }, [kind, [...await import('node:fs').then(fs => fs.readFileSync(image('bird.jpg')))]]);
      await settled(page);
    }
    await page.waitForFunction(() => document.querySelectorAll('#strip button').length === 2);
  });

  for (const [name, options] of [
    ['phone', { viewport: { width: 375, height: 700 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 }],
    ['dark', { viewport: { width: 1100, height: 900 }, colorScheme: 'dark' }],
  ]) {
    await test(name, options, async page => {
      await page.goto(server.url);
      await page.locator('#file').setInputFiles([image('bird.jpg'), image('cat.jpg')]);
      await page.waitForFunction(() => document.querySelectorAll('#strip button').length === 2);
      await settled(page);
      const [whole, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(whole <= seen, `${whole} pixels wide in a window of ${seen}`);
      await shoot(page, name);
    });
  }
} finally { server.end(); }

const closed = await serve('--api-key', 'secret');
try {
  await test('a key is asked for', {}, async page => {
    await page.goto(closed.url);
    await page.locator('#key').fill('secret');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('#model').options.length === 1);
    await page.locator('#file').setInputFiles(image('cat.jpg'));
    await settled(page);
    assert.equal(await first(page).textContent(), 'cat');
  });
} finally { closed.end(); }

await browser.close();
console.log(failed ? `${failed} failed` : 'all passed');
process.exit(failed ? 1 : 0);
