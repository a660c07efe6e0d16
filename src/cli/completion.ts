/** Completion scripts for shells, generated from the data of the commands. Pure. */
import { type Argument, COMMON_FLAGS, type Command, type Flag } from "./command.ts";

/** Supported shells. */
export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/**
 * Prints the pools and workers of the running controller, one per line; nothing without a controller. Names come from
 * another process: each script treats them as data that the shell never expands, and drops invalid names.
 */
const NAMES = "monoceros completion names 2>/dev/null";

const SCRIPTS: Readonly<Record<Shell, (commands: readonly Command[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** The script for `shell`. */
export function completionScript(shell: Shell, commands: readonly Command[]): string {
  return SCRIPTS[shell](commands);
}

/** First words of the command line; for groups, with their second words. */
interface Word {
  readonly name: string;
  readonly summary: string;
  /** The command; undefined for a group. */
  readonly command: Command | undefined;
  readonly members: readonly { readonly name: string; readonly command: Command }[];
}

function wordsOf(commands: readonly Command[]): Word[] {
  const names = new Set(commands.map(({ name }) => name.split(" ")[0] ?? name));
  return [...names].map((name) => {
    const command = commands.find((each) => each.name === name);
    const members = commands
      .filter((each) => each.name.startsWith(`${name} `))
      .map((each) => ({ name: each.name.slice(name.length + 1), command: each }));
    return {
      name,
      command,
      members,
      summary: command?.summary ?? `One of: ${members.map((each) => each.name).join(", ")}`,
    };
  });
}

function flagsOf(command: Command): [name: string, flag: Flag][] {
  return Object.entries({ ...command.flags, ...COMMON_FLAGS });
}

/** Spellings of flags that take a file. */
function fileFlags(commands: readonly Command[]): string[] {
  const spellings = commands.flatMap((command) =>
    flagsOf(command)
      .filter(([, flag]) => isFile(flag))
      .flatMap(([name, { short }]) => [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]),
  );
  return [...new Set(spellings)].sort();
}

function isFile({ type, value }: Flag): boolean {
  return type === "string" && (value === "FILE" || value === "PATH");
}

/** Completions for an argument: words, or the names that NAMES prints. */
function valuesOf({ name, values }: Argument): { readonly words: readonly string[]; readonly areNames: boolean } {
  return { words: values ?? [], areNames: /POOL|WORKER/u.test(name) };
}

// bash

function bashScript(commands: readonly Command[]): string {
  const words = wordsOf(commands);
  const cases = commands.map((command) => {
    const flags = flagsOf(command).map(([name]) => `--${name}`);
    const values = command.arguments.map(valuesOf);
    const names = values.some(({ areNames }) => areNames) ? " names=1" : "";
    return `    "${command.name}") words=(${[...values.flatMap((each) => each.words), ...flags].join(" ")})${names} ;;`;
  });
  const groups = words
    .filter(({ members }) => members.length > 0)
    .map(({ name, members }) => `    "${name}") words=(${members.map((member) => member.name).join(" ")}) ;;`);
  return `# Completion of monoceros for bash, made by: monoceros completion bash
# Use it with: source <(monoceros completion bash)
_monoceros() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} names= word LC_ALL=C
  local -a words=()
  COMPREPLY=()
  case $previous in
    ${fileFlags(commands).join("|")}) compopt -o default 2>/dev/null; return ;;
  esac
  local command=\${COMP_WORDS[1]}
  case $command in
${words
  .filter(({ members }) => members.length > 0)
  .map(({ name }) => `    ${name}) [ "$COMP_CWORD" -gt 2 ] && command="$command \${COMP_WORDS[2]}" ;;`)
  .join("\n")}
  esac
  [ "$COMP_CWORD" -eq 1 ] && command=
  case $command in
    "") words=(${words.map(({ name }) => name).join(" ")} --help --version) ;;
${[...groups, ...cases].join("\n")}
  esac
  if [ -n "$names" ]; then
    while IFS= read -r word; do words+=("$word"); done < <(${NAMES})
  fi
  for word in "\${words[@]}"; do
    case $word in *[!A-Za-z0-9._-]*) continue ;; esac
    case $word in "$current"*) COMPREPLY+=("$word") ;; esac
  done
}
complete -F _monoceros monoceros
`;
}

// zsh

function zshScript(commands: readonly Command[]): string {
  const words = wordsOf(commands);
  const describe = (entries: readonly { readonly name: string; readonly summary: string }[]) =>
    entries.map(({ name, summary }) => quote(`${name}:${summary}`)).join(" ");
  const cases = words.map(({ name, command, members }) => {
    if (command !== undefined) return `        ${name}) ${zshArguments(command)} ;;`;
    const inner = members.map((member) => `            ${member.name}) ${zshArguments(member.command)} ;;`);
    const entries = members.map((member) => ({ name: member.name, summary: member.command.summary }));
    return `        ${name})
          if (( CURRENT == 2 )); then
            commands=(${describe(entries)})
            _describe command commands
            return
          fi
          shift words; (( CURRENT-- ))
          case $words[1] in
${inner.join("\n")}
          esac ;;`;
  });
  return `#compdef monoceros
# Completion of monoceros for zsh, made by: monoceros completion zsh
# Use it with: source <(monoceros completion zsh), or keep it as _monoceros in a directory of $fpath.
_monoceros_names() {
  local LC_ALL=C name
  local -a names
  for name in \${(f)"$(${NAMES})"}; do
    [[ $name == *[^A-Za-z0-9._-]* ]] || names+=("$name")
  done
  compadd -a names
}
_monoceros() {
  local state line
  local -a commands
  _arguments -C '1:command:->command' '*::argument:->arguments'
  case $state in
    command)
      commands=(${describe(words)})
      _describe command commands ;;
    arguments)
      case $words[1] in
${cases.join("\n")}
      esac ;;
  esac
}
if [ "$funcstack[1]" = _monoceros ]; then _monoceros "$@"; else compdef _monoceros monoceros; fi
`;
}

function zshArguments(command: Command): string {
  const flags = flagsOf(command).flatMap(([name, flag]) => {
    const value = flag.type === "boolean" ? "" : `:${flag.value ?? "VALUE"}:${isFile(flag) ? "_files" : ""}`;
    const doc = `[${flag.doc.replaceAll(/[[\]:\\]/gu, "\\$&")}]${value}`;
    return [`--${name}`, ...(flag.short === undefined ? [] : [`-${flag.short}`])].map((flagName) =>
      quote(flagName + doc),
    );
  });
  const positional = command.arguments.map((argument) => {
    const { words, areNames } = valuesOf(argument);
    const action = areNames ? "_monoceros_names" : words.length > 0 ? `(${words.join(" ")})` : "";
    return quote(`:${argument.name}:${action}`);
  });
  return ["_arguments", ...flags, ...positional].join(" ");
}

// fish

const FISH_FILTER = 'string match --regex "^[A-Za-z0-9._-]+\\$"';

function fishScript(commands: readonly Command[]): string {
  const lines = [
    "# Completion of monoceros for fish, made by: monoceros completion fish",
    "# Use it with: monoceros completion fish | source",
    "complete -c monoceros -f",
  ];
  for (const { name, summary, command, members } of wordsOf(commands)) {
    lines.push(`complete -c monoceros -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`);
    if (command !== undefined) lines.push(...fishLines(command, `__fish_seen_subcommand_from ${name}`));
    const memberNames = members.map((member) => member.name).join(" ");
    for (const member of members) {
      const isOpen = `__fish_seen_subcommand_from ${name}; and not __fish_seen_subcommand_from ${memberNames}`;
      const { summary: doc } = member.command;
      lines.push(`complete -c monoceros -n ${quote(isOpen)} -a ${member.name} -d ${quote(doc)}`);
      const isHere = `__fish_seen_subcommand_from ${name}; and __fish_seen_subcommand_from ${member.name}`;
      lines.push(...fishLines(member.command, isHere));
    }
  }
  return `${lines.join("\n")}\n`;
}

function fishLines(command: Command, condition: string): string[] {
  const start = `complete -c monoceros -n ${quote(condition)}`;
  const flags = flagsOf(command).map(([name, flag]) => {
    const short = flag.short === undefined ? "" : ` -s ${flag.short}`;
    const value = flag.type === "boolean" ? "" : isFile(flag) ? " -r -F" : " -x";
    return `${start} -l ${name}${short}${value} -d ${quote(flag.doc)}`;
  });
  const positional = command.arguments.flatMap((argument) => {
    const { words, areNames } = valuesOf(argument);
    if (areNames) return [`${start} -a ${quote(`(${NAMES} | ${FISH_FILTER})`)}`];
    return words.length > 0 ? [`${start} -a ${quote(words.join(" "))}`] : [];
  });
  return [...flags, ...positional];
}

/** One word for any shell: in single quotes, inside of which nothing else is special. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
