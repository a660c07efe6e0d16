/** Why keys of systemd units are not translated. */

const OWN_UNIT = "it belongs in the unit of the controller, see docs/howto/systemd.md";

const REASONS: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^(?:Description|Documentation)$/u, "pools have a name and no description"],
  [/^ExecReload$/u, "`monoceros restart` replaces the workers one by one without losing requests"],
  [/^ExecStop(?:Post)?$/u, "a worker is stopped by its stop_signal"],
  [
    /^ExecStartPost$/u,
    "no command runs after a start; write a readiness probe, or a oneshot pool that depends on this one",
  ],
  [/^ExecCondition$/u, "no command decides whether a pool starts"],
  [/^PIDFile$/u, "the controller knows its workers without pid files"],
  [
    /^(?:TimeoutStartSec|TimeoutAbortSec)$/u,
    "write a startup probe, whose failure_threshold and period limit the start",
  ],
  [/^(?:RemainAfterExit|GuessMainPID)$/u, "it has no meaning for a worker"],
  [/^(?:SyslogIdentifier|SyslogFacility|SyslogLevel|LogLevelMax)$/u, "each line of a worker carries its worker id"],
  [/^UnsetEnvironment$/u, "variables of the controller cannot be removed; start the controller without them"],
  [
    /^(?:SendSIGHUP|SendSIGKILL|FinalKillSignal|RestartKillSignal)$/u,
    "a worker is sent stop_signal, then SIGKILL after signal_timeout",
  ],
  [
    /^(?:Memory|CPU|IO|Tasks|Allowed|Block|Device|Slice|Delegate|StartupCPU)|Accounting$/u,
    `the control group of the controller limits all workers together; ${OWN_UNIT}`,
  ],
  [
    /^(?:Protect|Private|ReadOnly|ReadWrite|Inaccessible|Restrict|NoNewPrivileges|Capability|Ambient|Lock|SystemCall|Dynamic|(?:Runtime|State|Cache|Logs|Configuration)Directory|Root|Bind|Mount|Temporary|Secure|Keyring|Remove|UMask|IPAddress|Supplementary|PAMName|LoadCredential|SetCredential)/u,
    `the sandbox is that of the controller and includes its workers; ${OWN_UNIT}`,
  ],
];

/** A sentence without a full stop. */
export function reasonFor(section: string, key: string): string {
  const known = REASONS.find(([pattern]) => pattern.test(key))?.[1];
  if (known !== undefined) return known;
  if (section === "Install") return `the pool starts with the controller; ${OWN_UNIT}`;
  if (section === "Unit") return `the order relative to other units is that of the controller; ${OWN_UNIT}`;
  return section === "Service" ? "it has no equivalent for a worker" : "only [Service] is translated";
}
