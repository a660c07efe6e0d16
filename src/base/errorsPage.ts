/** docs/errors.md, generated from the table of codes. */
import { ERROR_CODES } from "./errors.ts";

/** The page in Markdown. */
export function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { exitCode, meaning }]) => `| \`${code}\` | ${exitCode} | ${meaning} |`,
  );
  return `# Errors

This page is generated from \`src/base/errors.ts\`; do not edit it. Every operational error has a stable code. It appears in JSON
errors of the API and of \`--json\`, in brackets after configuration problems, and as \`code\` in log records. A bug in Monoceros
exits with code 70.

| Code | Exit code | Meaning |
|---|---|---|
${rows.join("\n")}
`;
}
