// The published library on webhooks that were received: verify.mjs FILE, where the file is JSON
// {"secret": "whsec_...", "received": [{"body": "...", "headers": {...}}]}. Prints what it made of each.
import { readFileSync } from 'node:fs';
import { Webhook } from 'standardwebhooks';

const { secret, received } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const webhook = new Webhook(secret);
const verified = received.map(({ body, headers }) => {
  const event = webhook.verify(body, headers);
  let forged = false;
  try {
    webhook.verify(`${body} `, headers);
    forged = true;
  } catch {
    // as it must be
  }
  return { id: event.event_id, type: event.event_type, cause: event.data.cause, forged };
});
console.log(JSON.stringify(verified));
