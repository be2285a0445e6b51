// Applies an application's pending Prisma migrations, one run at a time, and says what came of it.
//
//   export handler(event, context)                                in a Lambda function
//   node windlass_prisma.mjs -- '{"action": "migrate", …}'        once, in a task or on any machine
//
// Actions and answers are those of windlass_django.py. Uses @prisma/schema-engine-wasm where it is there (windlass's own zip
// brings it), else the application's `prisma` command; and `pg`, to lock, and to see what is applied. DATABASE_URL is the
// database; PRISMA_ROOT the project, if it is not the working directory.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const LOCK = "8604529940662154099"; // "windlass"
const say = (word, what) => console.log(`windlass-${word} ${JSON.stringify(what)}`);
const fail = (name, text) => Object.assign(new Error(text), { name });
const read = (path) => (existsSync(path) ? readFileSync(path, "utf8") : "");

function project() {
  for (const root of [process.env.PRISMA_ROOT, ".", "/app", "/usr/src/app", "/var/task"].filter(Boolean)) {
    const named = JSON.parse(read(join(root, "package.json")) || "{}").prisma?.schema;
    const schema = [named, "prisma/schema.prisma", "prisma/schema", "schema.prisma"].filter(Boolean).map((path) => resolve(root, path)).find(existsSync);
    if (!schema) continue;
    const config = ["prisma.config.ts", "prisma.config.mjs", "prisma.config.js"].map((name) => read(join(root, name))).join("");
    const given = /migrations\s*:\s*\{[^}]*path\s*:\s*["']([^"']+)/.exec(config)?.[1];
    const folder = given ? resolve(root, given) : [join(schema, "../migrations"), join(schema, "migrations")].map((path) => resolve(path)).find(existsSync) ?? resolve(schema, "../migrations");
    return { root: resolve(root), schema, folder };
  }
  throw fail("Start", "there is no Prisma schema: set PRISMA_ROOT, or WORKDIR, to the project's directory");
}

const migrations = ({ folder }) =>
  (existsSync(folder) ? readdirSync(folder) : []).sort().filter((name) => existsSync(join(folder, name, "migration.sql")))
    .map((name) => ({ name, sql: readFileSync(join(folder, name, "migration.sql"), "utf8") }));

async function find(root, name) {
  for (const from of [root, "/var/task", "/opt/windlass"]) {
    try { return pathToFileURL(createRequire(join(from, "x.js")).resolve(name)).href; } catch { /* not here */ }
  }
}

async function client(root) {
  const found = await find(root, "pg");
  if (!found) return null;
  const { default: pg } = await import(found);
  const url = process.env.DATABASE_URL;
  if (!url) throw fail("Start", "ImproperlyConfigured: DATABASE_URL is not set");
  const made = new pg.Client({ connectionString: url, keepAlive: true, connectionTimeoutMillis: 15000 });
  made.on("error", () => {});
  await made.connect();
  return made;
}

const schemaName = () => new URL(process.env.DATABASE_URL).searchParams.get("schema") || "public";

async function state(here, database) {
  const have = migrations(here);
  if (!database) return { pending: null, all_applied: null };
  const { rows: [{ table }] } = await database.query("SELECT to_regclass($1)::text AS table", [`"${schemaName()}"._prisma_migrations`]);
  const { rows } = table ? await database.query(`SELECT migration_name AS name, checksum, finished_at, rolled_back_at, logs FROM ${table}`) : { rows: [] };
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

async function withWasm(here, engine) {
  const bindings = await import(new URL("schema_engine_bg.js", engine).href);
  const { instance } = await WebAssembly.instantiate(readFileSync(new URL("schema_engine_bg.wasm", engine)), { "./schema_engine_bg.js": bindings });
  bindings.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  const { PrismaPg } = await import(await find(here.root, "@prisma/adapter-pg"));
  const { bindMigrationAwareSqlAdapterFactory: bind } = await import(await find(here.root, "@prisma/driver-adapter-utils"));
  const errors = [];
  const factory = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: 1 }, { schema: schemaName() });
  const connect = factory.connect.bind(factory);
  let adapter;
  factory.connect = async () => {
    adapter = await connect();
    // The adapter's own splits at every `;`, also inside strings and function bodies.
    adapter.executeScript = (script) => adapter.client.query(script).then(() => undefined, (error) => { errors.push(error.message); adapter.onError(error); });
    return adapter;
  };
  const schemas = (statSync(here.schema).isDirectory() ? readdirSync(here.schema).filter((name) => name.endsWith(".prisma")).map((name) => join(here.schema, name)) : [here.schema]);
  const made = await bindings.SchemaEngine.new({ datamodels: schemas.map((path) => [path, read(path)]) }, () => {}, bind(factory));
  const list = migrations(here).map(({ name, sql }) => ({ path: name, migrationFile: { path: "migration.sql", content: { tag: "ok", value: sql } } }));
  const lockfile = { path: "migration_lock.toml", content: read(join(here.folder, "migration_lock.toml")) || null };
  try {
    const input = { migrationsList: { baseDir: here.folder, lockfile, shadowDbInitScript: "", migrationDirectories: list }, filters: { externalTables: [], externalEnums: [] } };
    return (await made.applyMigrations(input)).appliedMigrationNames;
  } catch (error) {
    const text = errors.at(-1) ?? error.message.split("\n   0:")[0];
    throw fail(error.code ?? (errors.length ? "P3018" : "Error"), text);
  } finally {
    await adapter?.dispose?.().catch(() => {});
  }
}

async function withCommand(here) {
  const program = await find(here.root, "prisma/build/index.js");
  if (!program) throw fail("Start", "ERR_MODULE_NOT_FOUND: neither @prisma/schema-engine-wasm nor `prisma` is installed here");
  const env = { ...process.env, CHECKPOINT_DISABLE: "1", PRISMA_HIDE_UPDATE_MESSAGE: "1" };
  const child = spawn(process.execPath, [new URL(program).pathname, "migrate", "deploy"], { cwd: here.root, env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const pipe of [child.stdout, child.stderr]) pipe.on("data", (data) => { text += data; process.stdout.write(data); });
  const [code, signal] = await new Promise((done, failed) => child.on("error", failed).on("close", (...how) => done(how)));
  if (code !== 0) throw fail("MigrateDeployFailed", `prisma migrate deploy ${signal ? `was killed by ${signal}` : `exited with ${code}`}: ${text.trim().split("\n").slice(-12).join(" ")}`);
  // Without its engine the command ends with 0 and has done nothing.
  if (!/No pending migrations to apply|successfully applied/.test(text)) throw fail("NothingApplied", "it said that it succeeded and has not migrated: prisma migrate deploy exited with 0 and named no result");
}

async function migrate(here, database, mark, patience) {
  const holder = await lock(database, mark, patience);
  if (holder) throw fail("Locked", `another migration holds the database: ${holder}`);
  const before = await state(here, database);
  if (before.edited?.length) throw fail("Edited", `edited: ${before.edited.join(", ")} was modified after it was applied`);
  if (before.failed?.length) throw fail("P3009", `P3009: an earlier migration has failed: ${before.failed.join(", ")}`);
  const engine = await find(here.root, "@prisma/schema-engine-wasm");
  try {
    await (engine && database ? withWasm(here, engine) : withCommand(here));
  } catch (error) {
    const after = await state(here, database).catch(() => before);
    const done = (before.pending ?? []).filter((name) => !after.pending?.includes(name));
    throw fail(error.name, `${error.message} (applied before it: ${done.join(", ") || "nothing"}; still pending: ${after.pending?.join(", ") || "not known"})`);
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
    database = await client(here.root);
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
if (event?.startsWith("{")) handler(JSON.parse(event)).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
