export class UnsupportedElf extends Error {}
export function slimElf(original: Buffer, runPath: string): Buffer;
export function readRunPath(file: Buffer): string[];
