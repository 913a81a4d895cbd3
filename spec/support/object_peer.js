// Another NATS client's object store (npm's `nats`), for spec/nats/objects_peer_spec.lua.
// usage: node object_peer.js MODULES URL BUCKET VERB [NAME [FILE]]      MODULES: folder that holds node_modules
// Prints one JSON value; exit code 1 and the error on stderr when the client fails.
const fs = require("fs");
const [modules, url, bucket, verb, name, file] = process.argv.slice(2);
const { connect, headers } = require(modules + "/node_modules/nats");

const verbs = {
  async put(os) {
    const h = headers();
    h.append("content-type", "text/x-peer");
    h.append("x-pyoco-wheel-tags", "hello");
    h.append("x-pyoco-wheel-tags", "cpu");
    return os.putBlob({ name, description: "from npm", headers: h }, new Uint8Array(fs.readFileSync(file)));
  },
  async get(os) {
    const result = await os.get(name);
    if (!result) return null;
    const out = [];
    for await (const piece of result.data) out.push(piece);
    const error = await result.error;
    if (error) throw error;
    fs.writeFileSync(file, Buffer.concat(out));
    return result.info;
  },
  info: (os) => os.info(name),
  list: async (os) => (await os.list()).map((it) => ({ name: it.name, deleted: it.deleted === true })),
  delete: (os) => os.delete(name),
  link: async (os) => os.link(name, await os.info(file)),
};

(async () => {
  const nc = await connect({ servers: url });
  const os = await nc.jetstream().views.os(bucket);
  const value = await verbs[verb](os);
  await nc.close();
  console.log(JSON.stringify(value?.info ?? value) ?? "null"); // its infos are objects of getters around `info`
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
