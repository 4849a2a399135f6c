// The vendor's TypeScript client against the gateway's dialect: prints what it got as one JSON object.
// Arguments: base URL, API key, device that shares, device whose source cannot be asked, signed webhook (JSON).
import LinqAPIV3 from '@linqapp/sdk';

const [baseURL, apiKey, sharing, deaf, webhook] = process.argv.slice(2);
const client = new LinqAPIV3({ baseURL, apiKey });
const hook = 'https://receiver.example/hook';

const made = await client.webhookSubscriptions.create({
  target_url: hook,
  subscribed_events: ['location.sharing.started', 'message.sent'],
});
const listed = await client.webhookSubscriptions.list();
const read = await client.webhookSubscriptions.retrieve(made.id);
const updated = await client.webhookSubscriptions.update(made.id, { is_active: false });
await client.webhookSubscriptions.delete(made.id);
const gone = await client.webhookSubscriptions.retrieve(made.id).then(() => null, (error) => error);
const location = await client.chats.location.retrieve(sharing);
const requested = await client.chats.location.request(sharing);
const refused = await client.chats.location.request(deaf).then(() => null, (error) => error);
const events = await client.webhookEvents.list();
const { body, headers, key } = JSON.parse(webhook);
const event = client.webhooks.unwrap(body, { headers, key });

console.log(
  JSON.stringify({
    made,
    listed: listed.subscriptions.map((one) => one.id),
    read,
    updated,
    gone: { name: gone.constructor.name, status: gone.status },
    location,
    requested,
    refused: { name: refused.constructor.name, status: refused.status },
    events: events.events,
    event: { type: event.event_type, shared_by: event.data.shared_by },
  }),
);
