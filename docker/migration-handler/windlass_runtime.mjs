// A Lambda runtime for one handler, so that any image with Node can be a function: windlass_runtime.mjs MODULE
//
// In Lambda it speaks the Runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html). Anywhere else it
// serves invocations on :8080, as AWS's emulator does, for clouds that run on one machine.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

import { guarded } from "./windlass_secrets.mjs";

const handler = guarded((await import(new URL(process.argv[2], import.meta.url))).handler);

async function answer(body, awsRequestId) {
  try {
    return [false, JSON.stringify((await handler(JSON.parse(body || "{}"), { awsRequestId })) ?? null)];
  } catch (error) {
    console.error(error.stack);
    return [true, JSON.stringify({ errorType: error.name, errorMessage: error.message, stackTrace: String(error.stack).split("\n") })];
  }
}

async function runtime(api) {
  const base = `http://${api}/2018-06-01/runtime/invocation/`;
  for (;;) {
    // `fetch` gives up after five minutes without an event: there is none to lose.
    const event = await fetch(`${base}next`).catch(() => null);
    if (!event) continue;
    const id = event.headers.get("lambda-runtime-aws-request-id");
    const [failed, body] = await answer(await event.text(), id);
    const headers = failed ? { "lambda-runtime-function-error-type": "Unhandled" } : {};
    await fetch(`${base}${id}/${failed ? "error" : "response"}`, { method: "POST", body, headers });
  }
}

function emulate() {
  const server = createServer(async (request, response) => {
    const id = request.headers["x-amzn-requestid"] ?? randomUUID();
    let body = "";
    for await (const piece of request) body += piece;
    console.log(`START RequestId: ${id}`);
    const [failed, text] = await answer(body, id);
    console.log(`END RequestId: ${id}\nREPORT RequestId: ${id}`);
    response.writeHead(200, { "content-type": "application/json", ...(failed && { "x-amz-function-error": "Unhandled" }) }).end(text);
  });
  server.requestTimeout = 0;
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
  server.listen(8080, "0.0.0.0");
}

const api = process.env.AWS_LAMBDA_RUNTIME_API;
await (api ? runtime(api) : emulate());
