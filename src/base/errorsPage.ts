/** docs/errors.md, generated from the table of codes. */
import { ERROR_CODES } from "./errors.ts";

/** The page in Markdown. */
export function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { exitCode, meaning }]) => `| \`${code}\` | ${exitCode} | ${meaning} |`,
  );
  return `# Errors

Generated from \`src/base/errors.ts\`. Every operational error has a stable code: in JSON errors of the API and of
\`--json\`, in brackets behind the problems of a configuration, and as \`code\` in records of the log. A bug exits with 70.

| code | exit code | meaning |
|---|---|---|
${rows.join("\n")}
`;
}
