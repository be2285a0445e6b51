// Applies an application's pending Prisma migrations, one run at a time, and says what came of it.
//
//   export handler(event, context)                                in a Lambda function
//   node windlass_prisma.mjs -- '{"action": "migrate", …}'        once, in a task or on any machine
//
// Actions and answers are those of windlass_django.py. The application's own `prisma` command migrates where its native engine is
// installed, else @prisma/schema-engine-wasm, which windlass brings along in images and zips; `pg` locks, and sees what is applied.
// The database is the one that the schema's `directUrl` or `url` names, else DATABASE_URL; PRISMA_ROOT is the project, if it is not
// the working directory.
import { spawn } from "node:child_process";
import { createHash, webcrypto } from "node:crypto";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const LOCK = "8604529940662154099"; // "windlass"
const { env } = process;
const say = (word, what) => console.log(`windlass-${word} ${JSON.stringify(what)}`);
const fail = (name, text) => Object.assign(new Error(text), { name });
const read = (path) => (existsSync(path) ? readFileSync(path, "utf8") : "");
const uncommented = (text) => text.replace(/^\s*\/\/.*$/gm, "");

function project() {
  for (const root of [env.PRISMA_ROOT, env.LAMBDA_TASK_ROOT, ".", "/app", "/usr/src/app", "/var/task"].filter(Boolean)) {
    const names = ["ts", "mts", "mjs", "js", "cjs"].flatMap((end) => [`prisma.config.${end}`, `.config/prisma.${end}`]);
    const config = uncommented(names.map((name) => read(join(root, name))).join("\n"));
    const named = [JSON.parse(read(join(root, "package.json")) || "{}").prisma?.schema, /\bschema\s*:\s*["'`]([^"'`]+)/.exec(config)?.[1]];
    const paths = [...named, "prisma/schema.prisma", "prisma/schema", "schema.prisma"].filter(Boolean).map((path) => resolve(root, path));
    const schema = paths.find(existsSync);
    if (!schema) continue;
    const files = statSync(schema).isDirectory() ? readdirSync(schema, { recursive: true }).filter((name) => name.endsWith(".prisma")).sort().map((name) => join(schema, name)) : [schema];
    const given = /migrations\s*:\s*\{[^}]*path\s*:\s*["'`]([^"'`]+)/.exec(config)?.[1];
    const folder = given ? resolve(root, given) : [join(schema, "../migrations"), join(schema, "migrations")].map((path) => resolve(path)).find(existsSync) ?? resolve(schema, "../migrations");
    const source = files.map((path) => /datasource\s+\w+\s*\{[^}]*\}/.exec(uncommented(read(path)))?.[0]).find(Boolean) ?? "";
    const variable = (text, key) => new RegExp(`\\b${key}\\s*[=:]\\s*(?:env\\(\\s*["'\`](\\w+)|process\\.env\\.(\\w+)|process\\.env\\[["'\`](\\w+))`).exec(text)?.slice(1).find(Boolean);
    const variables = ["directUrl", "url"].flatMap((key) => [variable(source, key), variable(config, key)]);
    return { root: resolve(root), files, folder, variable: [...variables, "DATABASE_URL"].find((name) => name && env[name]) ?? variables.find(Boolean) ?? "DATABASE_URL", provider: /provider\s*=\s*"(\w+)"/.exec(source)?.[1] ?? "postgresql" };
  }
  throw fail("Start", "there is no Prisma schema: set PRISMA_ROOT, or WORKDIR, to the project's directory");
}

const migrations = ({ folder }) =>
  (existsSync(folder) ? readdirSync(folder) : []).sort().filter((name) => existsSync(join(folder, name, "migration.sql")))
    .map((name) => ({ name, sql: readFileSync(join(folder, name, "migration.sql"), "utf8") }));

/** Where a package is: beside this file first, as what windlass brings along fits together, then in the project. */
function find(root, name) {
  for (const from of [import.meta.url, join(root, "x.js")]) {
    try { return createRequire(from).resolve(name); } catch { /* not here */ }
  }
}
const load = async (root, name) => import(pathToFileURL(find(root, name)).href);

/** How to connect, as Prisma's own engine would: `prefer` and `require` take any certificate. */
function settings(here) {
  let url;
  try { url = new URL(env[here.variable] ?? ""); } catch { throw fail("Start", `ImproperlyConfigured: ${here.variable} is ${env[here.variable] ? "no URL" : "not set"}`); }
  const asked = url.searchParams;
  here.schema = asked.get("schema") || "public";
  const kept = [...asked].filter(([name]) => ["host", "options"].includes(name));
  const root = asked.get("sslrootcert") ?? asked.get("sslcert");
  const lax = { rejectUnauthorized: false };
  const strict = root ? { ca: read(resolve(here.root, root)) } : {};
  const mode = asked.get("sslaccept") === "strict" ? "verify-full" : asked.get("sslmode") ?? "prefer";
  const ways = { disable: [false], require: [lax], "no-verify": [lax], "verify-ca": [{ ...strict, checkServerIdentity: () => undefined }], "verify-full": [strict] };
  url.search = new URLSearchParams(kept).toString();
  const path = here.schema === "public" ? {} : { options: `-c search_path="${here.schema}"` };
  return (ways[mode] ?? [lax, false]).map((ssl) => ({ connectionString: url.href, ssl, keepAlive: true, connectionTimeoutMillis: 15000, ...path }));
}

async function client(here) {
  if (!/postgres|cockroach/.test(here.provider) || !find(here.root, "pg")) return null;
  const { default: pg } = await load(here.root, "pg");
  const ways = settings(here);
  for (const config of ways) {
    const made = new pg.Client(config);
    made.on("error", () => {});
    try {
      await made.connect();
      here.config = config;
      return made;
    } catch (error) {
      if (config === ways.at(-1) || !/does not support SSL/.test(error.message)) throw fail(error.code ?? error.name, error.message || error.errors?.map((one) => one.message).join("; ") || String(error.code));
    }
  }
}

async function state(here, database) {
  const have = migrations(here);
  if (!database) return { pending: null, all_applied: null };
  const { rows: [{ table }] } = await database.query("SELECT to_regclass($1)::text AS table", [`"${here.schema}"._prisma_migrations`]);
  const { rows } = table ? await database.query(`SELECT migration_name AS name, checksum, finished_at, rolled_back_at FROM "${here.schema}"._prisma_migrations`) : { rows: [] };
  const done = rows.filter((row) => row.finished_at && !row.rolled_back_at);
  const failed = rows.filter((row) => !row.finished_at && !row.rolled_back_at);
  const sum = (sql) => createHash("sha256").update(sql).digest("hex");
  const edited = have.filter(({ name, sql }) => done.some((row) => row.name === name && row.checksum !== sum(sql))).map(({ name }) => name);
  return {
    pending: have.map(({ name }) => name).filter((name) => !done.some((row) => row.name === name)),
    all_applied: done.map((row) => row.name).sort(), failed: failed.map((row) => row.name), edited,
  };
}

async function lock(database, mark, patience) {
  if (!database) return null;
  await database.query("SELECT set_config('application_name', $1, false)", [`windlass ${mark}`.slice(0, 63)]);
  for (const until = Date.now() + patience * 1000; ; await new Promise((done) => setTimeout(done, 500))) {
    if ((await database.query(`SELECT pg_try_advisory_lock(${LOCK}) AS got`)).rows[0].got) return null;
    const { rows } = await database.query(`SELECT application_name || ', since ' || backend_start::time(0) AS holder FROM pg_locks JOIN pg_stat_activity USING (pid)
      WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = ${LOCK} AND datname = current_database()`);
    if (Date.now() >= until) return rows[0]?.holder ?? "somebody who has just let go";
  }
}

/** Prisma's own lock, which its engine without native code would wait for without end. */
async function prismas(database) {
  for (const until = Date.now() + 10000; ; await new Promise((done) => setTimeout(done, 500))) {
    if ((await database.query("SELECT pg_try_advisory_lock(72707369) AS got")).rows[0].got) return database.query("SELECT pg_advisory_unlock(72707369)");
    if (Date.now() >= until) throw fail("P1002", "P1002: timed out after 10 s trying to acquire Prisma's advisory lock (72707369): another session holds it");
  }
}

// Node 18 has none, and the engine panics without it.
globalThis.crypto ??= webcrypto;
let engines = 0;

async function withWasm(here) {
  const errors = [];
  const engine = new URL("schema_engine_bg.wasm", pathToFileURL(find(here.root, "@prisma/schema-engine-wasm")));
  // Timers of an earlier invocation's engine still call it: each has bindings of its own.
  const bindings = await import(new URL(`schema_engine_bg.js?${++engines}`, engine).href);
  const { instance } = await WebAssembly.instantiate(readFileSync(engine), { "./schema_engine_bg.js": bindings });
  // Without it a panic of the engine's is told as one of nobody's.
  globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: (text) => errors.push(Object.assign(new Error(text), { code: "panic" })) };
  bindings.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  const { PrismaPg } = await load(here.root, "@prisma/adapter-pg");
  const { bindMigrationAwareSqlAdapterFactory: bind } = await load(here.root, "@prisma/driver-adapter-utils");
  const factory = new PrismaPg({ ...here.config, max: 1 }, { schema: here.schema });
  const connect = factory.connect.bind(factory);
  let adapter;
  factory.connect = async () => {
    adapter = await connect();
    // The adapter's own splits at every `;`, also inside strings and function bodies.
    adapter.executeScript = (script) => adapter.client.query(script).then(() => undefined, (error) => { errors.push(error); adapter.onError(error); });
    return adapter;
  };
  const made = await bindings.SchemaEngine.new({ datamodels: here.files.map((path) => [path, read(path)]) }, () => {}, bind(factory));
  const list = migrations(here).map(({ name, sql }) => ({ path: name, migrationFile: { path: "migration.sql", content: { tag: "ok", value: sql } } }));
  const lockfile = { path: "migration_lock.toml", content: read(join(here.folder, "migration_lock.toml")) || null };
  try {
    const input = { migrationsList: { baseDir: here.folder, lockfile, shadowDbInitScript: "", migrationDirectories: list }, filters: { externalTables: [], externalEnums: [] } };
    await made.applyMigrations(input);
  } catch (error) {
    const said = errors.at(-1);
    throw said ? fail("P3018", `P3018: ${said.message} (${said.code})`) : fail(error.code ?? error.name, String(error.message).split("\n   0:")[0]);
  } finally {
    await adapter?.dispose?.().catch(() => {});
  }
}

/** The application's command, and whether the engine that it needs is there: without one it would look for it on the Internet. */
function command(here) {
  const found = find(here.root, "prisma/package.json");
  if (!found) return {};
  const given = env.PRISMA_SCHEMA_ENGINE_BINARY;
  let files = given ? [given] : [];
  try {
    const home = dirname(createRequire(found).resolve("@prisma/engines/package.json"));
    if (!given) files = readdirSync(home).filter((name) => name.startsWith("schema-engine-")).map((name) => join(home, name));
  } catch { /* no engine */ }
  // A placeholder in the engine's place ends with 0 and has done nothing.
  return { program: join(dirname(found), "build/index.js"), native: files.some((path) => existsSync(path) && statSync(path).size > 1e6) };
}

async function withCommand(here, program) {
  const child = spawn(process.execPath, [program, "migrate", "deploy"], { cwd: here.root, env: { ...env, CHECKPOINT_DISABLE: "1", PRISMA_HIDE_UPDATE_MESSAGE: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const pipe of [child.stdout, child.stderr]) pipe.on("data", (data) => { text += data; console.log(String(data).trimEnd()); });
  const [code, signal] = await new Promise((done, failed) => child.on("error", failed).on("close", (...how) => done(how)));
  if (code !== 0) throw fail("MigrateDeployFailed", `prisma migrate deploy ${signal ? `was killed by ${signal}` : `exited with ${code}`}: ${text.trim().split("\n").slice(-12).join(" ")}`);
  if (!/No pending migrations to apply|successfully applied/.test(text)) throw fail("NothingApplied", "it said that it succeeded and has not migrated: prisma migrate deploy exited with 0 and named no result");
}

async function run(here, database) {
  const { program, native } = command(here);
  const wasm = database && ["@prisma/schema-engine-wasm", "@prisma/adapter-pg", "@prisma/driver-adapter-utils"].every((name) => find(here.root, name));
  if (wasm && !native) return prismas(database).then(() => withWasm(here));
  if (program) return withCommand(here, program);
  throw fail("Start", `ERR_MODULE_NOT_FOUND: neither \`prisma\` nor ${database ? "@prisma/schema-engine-wasm with @prisma/adapter-pg" : "`pg`"} is installed here`);
}

async function migrate(here, database, mark, patience) {
  const holder = await lock(database, mark, patience);
  if (holder) throw fail("Locked", `another migration holds the database: ${holder}`);
  const before = await state(here, database);
  if (before.edited?.length) throw fail("Edited", `edited: ${before.edited.join(", ")} was modified after it was applied`);
  if (before.failed?.length) throw fail("P3009", `P3009: an earlier migration has failed: ${before.failed.join(", ")}`);
  if (before.pending?.length) console.log(`applying ${before.pending.join(", ")}`);
  try {
    await run(here, database);
  } catch (error) {
    const { pending } = await state(here, database).catch(() => ({}));
    if (!pending) throw fail(error.name, `${error.message} (applied before it: not known)`);
    const done = before.pending.filter((name) => !pending.includes(name));
    throw fail(error.name, `${pending[0] ?? "after the last migration"}: ${error.message} (applied before it: ${done.join(", ") || "nothing"}; still pending: ${pending.join(", ") || "nothing"})`);
  }
  const after = await state(here, database);
  return { applied: before.pending?.filter((name) => !after.pending.includes(name)) ?? null, ...after };
}

export async function handler(event, context) {
  const { action = "migrate", mark = "", patience = 60 } = event ?? {};
  if (!["migrate", "state"].includes(action)) throw fail("ValueError", `unknown action ${action}`);
  if (action === "migrate") say("start", { mark, request: context?.awsRequestId ?? null });
  let database;
  try {
    const here = project();
    database = await client(here);
    const found = action === "migrate" ? await migrate(here, database, mark, patience)
      : { applied: [], running: await lock(database, "state", 0), ...(await state(here, database)) };
    const answer = { protocol: 1, running: null, ...found };
    say(action === "migrate" ? "end" : "state", { mark, answer });
    return answer;
  } catch (error) {
    if (action === "migrate") say("end", { mark, error: { errorType: error.name, errorMessage: error.message } });
    throw error;
  } finally {
    await database?.end().catch(() => {});
  }
}

const once = process.argv.indexOf("--");
const event = process.argv[once > 0 ? once + 1 : 1];
if (event?.startsWith("{")) handler(JSON.parse(event)).then(() => process.exit(0), (error) => { console.error(error.stack); process.exit(1); });
