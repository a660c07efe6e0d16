#!/usr/bin/env node
// Replaces this process by the executable of the platform's package, so that its process id, signals and exit code are the
// executable's own. The syntax is that of old versions of Node.js, so that they can print the reason too.
"use strict";

const platform = `${process.platform}-${process.arch}`;
/** The dynamic linker that the executable names: systems without glibc lack it. */
const linkers = { "linux-x64": "/lib64/ld-linux-x86-64.so.2", "linux-arm64": "/lib/ld-linux-aarch64.so.1" };

function findExecutable() {
  try {
    return require.resolve(`@monoceros/${platform}/bin/monoceros`);
  } catch (_error) {
    return undefined;
  }
}

function findProblem(executable) {
  if (linkers[platform] === undefined)
    return `it runs on Linux (x64 and arm64), not on ${platform}. Run it in a Linux container or virtual machine.`;
  if (!require("node:fs").existsSync(linkers[platform]))
    return `it needs glibc, and ${linkers[platform]} does not exist. Alpine and other musl distributions are not supported; use an image based on Debian, such as node:slim.`;
  if (executable === undefined)
    return `the package @monoceros/${platform} is not installed. Install with optional dependencies: npm install --include=optional`;
  if (process.execve === undefined)
    return `this command needs Node.js 22.15 or later, and this is ${process.version}. Update Node.js, or run the executable itself: ${executable}`;
  return undefined;
}

const executable = findExecutable();
const problem = findProblem(executable);
if (problem === undefined) process.execve(executable, [executable].concat(process.argv.slice(2)), process.env);
process.stderr.write(`monoceros: cannot start: ${problem}\n`);
process.exitCode = 1;
