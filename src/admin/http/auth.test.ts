import assert from "node:assert/strict";
import { test } from "node:test";
import { type Credentials, decideAccess, isLoopbackAddress, isLoopbackHost } from "./auth.ts";

/** A program on this machine that reads. */
function credentials(changes: Partial<Credentials> = {}): Credentials {
  return {
    isOpen: false,
    isForeignAllowed: false,
    remoteAddress: "127.0.0.1",
    host: "localhost:9000",
    origin: undefined,
    secFetchSite: undefined,
    authorization: undefined,
    ...changes,
  };
}

const FAR = { remoteAddress: "10.0.0.7", host: "pod:9000" };
const isToken = (text: string) => text === "right";

/** The admitted requester, or the status of the refusal. */
function verdict(changes: Partial<Credentials>, check?: typeof isToken): string | number {
  const decision = decideAccess(credentials(changes), check);
  return decision.kind === "admitted" ? decision.who : decision.status;
}

test("open routes are open to all clients", () => {
  for (const changes of [FAR, { host: undefined }, { remoteAddress: undefined }, { authorization: "Bearer wrong" }])
    assert.equal(verdict({ ...changes, isOpen: true }, isToken), "any client");
});

test("loopback is permitted only with a loopback name as Host", () => {
  for (const host of ["localhost", "LocalHost:80", "127.0.0.1", "127.1.2.3:9000", "[::1]", "[::1]:9000"])
    assert.equal(verdict({ host }), "loopback", host);
  for (const host of [
    undefined,
    "",
    "evil.example",
    "evil.example:9000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example/localhost",
    "localhost:9000@evil.example",
    "::1",
    "[::2]",
    "10.0.0.1",
    "localhost:",
    "0.0.0.0",
  ])
    assert.equal(verdict({ host }), 403, String(host));
});

test("other machines are refused, even with localhost as Host", () => {
  for (const remoteAddress of ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1", "127.evil", "1127.0.0.1", undefined])
    assert.equal(verdict({ remoteAddress }), 403, String(remoteAddress));
});

test("the token permits any client; a missing or wrong token returns 401", () => {
  assert.equal(verdict({ ...FAR, authorization: "Bearer right" }, isToken), "the token");
  assert.equal(verdict({ ...FAR, authorization: "bearer   right " }, isToken), "the token");
  assert.equal(verdict({ authorization: "Bearer right" }, isToken), "the token");
  for (const authorization of [
    undefined,
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    "Bearer right right",
    "Basic right",
    "right",
    "xBearer right",
  ])
    assert.equal(verdict({ ...FAR, authorization }, isToken), 401, String(authorization));
});

test("over loopback a wrong token is refused, and none is required", () => {
  assert.equal(verdict({ authorization: "Bearer wrong" }, isToken), 401);
  assert.equal(verdict({}, isToken), "loopback");
  assert.equal(verdict({ host: "evil.example" }, isToken), 403);
});

test("without a configured token, every token is refused", () => {
  assert.equal(verdict({ ...FAR, authorization: "Bearer undefined" }), 403);
  assert.equal(verdict({ ...FAR, authorization: "Bearer " }), 403);
});

test("a page of another origin is refused, regardless of token and address", () => {
  const change = { isForeignAllowed: false };
  const carriers = [{}, { ...FAR, authorization: "Bearer right" }];
  for (const carrier of carriers) {
    const own = { ...credentials(carrier) }.host;
    for (const origin of ["http://evil.example", "null", "", "http://localhost:1", "file://", `ftp://${own}`, `${own}`])
      assert.equal(verdict({ ...carrier, ...change, origin }, isToken), 403, origin);
    for (const secFetchSite of ["cross-site", "same-site"])
      assert.equal(verdict({ ...carrier, ...change, secFetchSite }, isToken), 403);
    assert.equal(
      verdict({ ...carrier, ...change, secFetchSite: "Cross-Site ", origin: `http://${own}` }, isToken),
      403,
    );
    for (const fine of [
      { origin: `http://${own}` },
      { origin: `https://${own}` },
      { origin: `http://${own}`, secFetchSite: "same-origin" },
      { secFetchSite: "none" },
      {},
    ])
      assert.notEqual(typeof verdict({ ...carrier, ...change, ...fine }, isToken), "number", JSON.stringify(fine));
  }
});

test("routes that permit foreign origins do; other open routes do not", () => {
  const foreign = { origin: "http://evil.example", secFetchSite: "cross-site" };
  assert.equal(verdict({ ...foreign, isForeignAllowed: true }), "loopback");
  assert.equal(verdict({ ...foreign, isForeignAllowed: true, isOpen: true, ...FAR }), "any client");
  assert.equal(verdict({ ...foreign, isOpen: true }), 403);
});

test("a refusal because of the origin does not reveal whether the token was right", () => {
  const change = { origin: "http://evil.example" };
  assert.deepEqual(
    decideAccess(credentials({ ...change, authorization: "Bearer right" }), isToken),
    decideAccess(credentials({ ...change, authorization: "Bearer wrong" }), isToken),
  );
});

test("loopback is 127.0.0.0/8 and ::1", () => {
  for (const address of ["127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1"]) assert.ok(isLoopbackAddress(address));
  for (const address of ["128.0.0.1", "::", "0.0.0.0", "", "::ffff:1.2.3.4"]) assert.ok(!isLoopbackAddress(address));
  assert.ok(isLoopbackHost(" localhost "));
});
