// Reads secrets into variables before a migration, as windlass_secrets.py does: DATABASE_SECRET_ARN, NAME_SECRET_ARN.
import { createHash, createHmac } from "node:crypto";

const env = process.env;
const given = {};
const hidden = new Set();
const fail = (text) => Object.assign(new Error(text), { name: "SecretFailed" });

async function ask(arn) {
  const region = arn.split(":")[3] || env.AWS_REGION || env.AWS_DEFAULT_REGION || "us-east-1";
  const url = env.AWS_ENDPOINT_URL_SECRETS_MANAGER || env.AWS_ENDPOINT_URL || `https://secretsmanager.${region}.amazonaws.com`;
  const body = JSON.stringify({ SecretId: arn });
  const now = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const signed = { "content-type": "application/x-amz-json-1.1", host: new URL(url).host, "x-amz-date": now, "x-amz-target": "secretsmanager.GetSecretValue" };
  if (env.AWS_SESSION_TOKEN) signed["x-amz-security-token"] = env.AWS_SESSION_TOKEN;
  const names = Object.keys(signed).sort();
  const sha = (text) => createHash("sha256").update(text).digest("hex");
  const canonical = ["POST", "/", "", ...names.map((name) => `${name}:${signed[name]}`), "", names.join(";"), sha(body)].join("\n");
  const scope = `${now.slice(0, 8)}/${region}/secretsmanager/aws4_request`;
  const parts = [...scope.split("/"), ["AWS4-HMAC-SHA256", now, scope, sha(canonical)].join("\n")];
  const key = parts.reduce((key, part) => createHmac("sha256", key).update(part).digest(), `AWS4${env.AWS_SECRET_ACCESS_KEY ?? ""}`);
  const authorization = `AWS4-HMAC-SHA256 Credential=${env.AWS_ACCESS_KEY_ID}/${scope}, SignedHeaders=${names.join(";")}, Signature=${key.toString("hex")}`;
  const { host, ...headers } = signed;
  const answer = await fetch(url, { method: "POST", body, headers: { ...headers, authorization }, signal: AbortSignal.timeout(15000) }).catch((error) => {
    throw fail(`${arn}: Secrets Manager cannot be reached (${error.cause?.message ?? error.message}): the function needs a NAT gateway, or its endpoint in the VPC`);
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw fail(`${arn}: ${String(said.__type ?? answer.status).split("#").pop()}: the function's role needs secretsmanager:GetSecretValue on it`);
  if (said.SecretString === undefined) throw fail(`${arn}: the secret is not a text`);
  return said.SecretString;
}

function database(text) {
  let known;
  try { known = JSON.parse(text); } catch { /* a URL */ }
  if (known === null || typeof known !== "object") return { DATABASE_URL: text };
  known = { ...known, dbname: known.dbname || known.database, username: known.username || known.user };
  const names = { host: ["DB_HOST", "PGHOST"], port: ["DB_PORT", "PGPORT"], dbname: ["DB_NAME", "PGDATABASE"], username: ["DB_USER", "PGUSER"], password: ["DB_PASSWORD", "PGPASSWORD"] };
  const got = {};
  for (const [key, variables] of Object.entries(names)) {
    known[key] ||= variables.map((name) => env[name]).find(Boolean);
    if (known[key]) for (const name of variables) got[name] = String(known[key]);
  }
  const quoted = (key) => encodeURIComponent(known[key] ?? "").replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
  hidden.add(String(known.password ?? "")).add(quoted("password"));
  const engine = String(known.engine ?? "postgresql").replace(/^postgres(ql)?$/, "postgresql");
  if (known.host) got.DATABASE_URL = `${engine}://${quoted("username")}:${quoted("password")}@${known.host}${known.port ? `:${known.port}` : ""}/${quoted("dbname")}`;
  return got;
}

export async function load() {
  for (const [name, arn] of Object.entries(env).filter(([name, arn]) => name.endsWith("_SECRET_ARN") && arn).sort()) {
    const parts = arn.split(":");
    const [secret, key] = parts.length > 7 ? [parts.slice(0, 7).join(":"), parts[7]] : [arn, ""];
    let text = await ask(secret);
    hidden.add(text);
    if (key) {
      text = JSON.parse(text)[key];
      if (text === undefined) throw fail(`${secret}: the secret has no key ${key}`);
      hidden.add(String(text));
    }
    const own = name.slice(0, -"_SECRET_ARN".length);
    const found = own === "DATABASE" ? database(String(text)) : { [own]: String(text) };
    for (const [variable, value] of Object.entries(found)) if (env[variable] === given[variable]) env[variable] = given[variable] = value;
  }
}

export const masked = (text) => [...hidden].filter((value) => value.length > 3).sort((a, b) => b.length - a.length).reduce((text, value) => text.replaceAll(value, "***"), text);

/** `handler` with its secrets, none of which it gives away. */
export const guarded = (handler) => async (event, context) => {
  const streams = [process.stdout, process.stderr].map((stream) => [stream, stream.write]);
  for (const [stream, write] of streams) stream.write = (data, ...rest) => write.call(stream, typeof data === "string" ? masked(data) : data, ...rest);
  const console_ = globalThis.console.log;
  // A managed runtime's console goes past the process's own streams.
  globalThis.console.log = (...words) => console_(...words.map((word) => (typeof word === "string" ? masked(word) : word)));
  try {
    await load();
    return await handler(event, context);
  } catch (error) {
    throw Object.assign(new Error(masked(String(error.message))), { name: error.name, stack: masked(String(error.stack)) });
  } finally {
    for (const [stream, write] of streams) stream.write = write;
    globalThis.console.log = console_;
  }
};
