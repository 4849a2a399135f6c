// The vendor's TypeScript client against a real gateway, with a receiver of its own. Prints one JSON object.
// Arguments: base URL, API key (read, write), ingest key, and as JSON {devices: {vendor: token}, group, chat, asked}.
import { once } from 'node:events';
import { createServer } from 'node:http';
import LinqAPIV3 from '@linqapp/sdk';

const [baseURL, apiKey, ingestKey, named] = process.argv.slice(2);
const { devices, group, chat, asked } = JSON.parse(named);
const client = new LinqAPIV3({ baseURL, apiKey });
const failure = (error) => ({ name: error.constructor.name, status: error.status, code: error.error?.error?.code });

const requests = [];
const receiver = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  requests.push({ body: Buffer.concat(chunks).toString('utf8'), headers: request.headers });
  response.writeHead(204).end();
  receiver.emit('webhook');
});
await once(receiver.listen(0, '127.0.0.1'), 'listening');
const target_url = `http://127.0.0.1:${receiver.address().port}/hook`;

const made = await client.webhookSubscriptions.create({
  target_url,
  subscribed_events: ['location.sharing.started', 'message.sent'],
});
const received = once(receiver, 'webhook');
await fetch(new URL('/ingest/native/positions', baseURL), {
  method: 'POST',
  headers: { Authorization: `Bearer ${ingestKey}`, 'Content-Type': 'application/json' },
  body: JSON.stringify({ device_token: 'bike', latitude: 5, longitude: 50, timestamp: Date.now() / 1000 }),
});
await received;
receiver.close();
const [{ body, headers }] = requests;
const event = client.webhooks.unwrap(body, { headers, key: made.signing_secret });
let forged = 'accepted';
try {
  client.webhooks.unwrap(body.replace('bike', 'tank'), { headers, key: made.signing_secret });
} catch (error) {
  forged = 'refused';
}

const listed = await client.webhookSubscriptions.list();
const read = await client.webhookSubscriptions.retrieve(made.id);
const updated = await client.webhookSubscriptions.update(made.id, {
  is_active: false,
  subscribed_events: ['location.sharing.stopped'],
});
await client.webhookSubscriptions.delete(made.id);
const gone = await client.webhookSubscriptions.retrieve(made.id).then(() => null, failure);
const wrong = await client.webhookSubscriptions.create({ target_url: 'ftp://x', subscribed_events: [] }).then(() => null, failure);
const events = await client.webhookEvents.list();

const where = async (id) => (await client.chats.location.retrieve(id)).data.features;
const locations = {};
for (const [vendor, device] of Object.entries(devices)) locations[vendor] = await where(device);
const crowd = await where(group);
const people = await where(chat);
const absent = await client.chats.location.retrieve('nobody').then(() => null, failure);

const requested = await client.chats.location.request(asked);
const refusals = {};
for (const id of [devices.native, devices.mycartracks, devices.driver_events, devices.imessage, group]) {
  refusals[id] = await client.chats.location.request(id).then(() => null, failure);
}

console.log(
  JSON.stringify({
    made, listed: listed.subscriptions, read, updated, gone, wrong, events: events.events,
    event: { type: event.event_type, id: event.event_id, shared_by: event.data.shared_by }, forged,
    locations, crowd, people, absent, requested, refusals,
  }),
);
