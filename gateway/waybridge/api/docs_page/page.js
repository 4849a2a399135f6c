// Draws openapi.json. Text only ever becomes text: nothing of the description is read as HTML.

const make = (name, text = "", attributes = {}) => {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");

// A schema as an example of its shape, references followed, cycles cut.
function shape(schema, all, seen = []) {
  if (!schema) return null;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return seen.includes(name) ? `(${name})` : shape(all[name], all, [...seen, name]);
  }
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.join(" | ");
  const kinds = schema.anyOf || schema.oneOf;
  if (kinds) {
    const some = kinds.filter((kind) => kind.type !== "null");
    const first = shape(some[0], all, seen);
    return typeof first === "string" && some.length < kinds.length ? `${first} | null` : first;
  }
  if (schema.type === "array") return [shape(schema.items, all, seen)];
  if (schema.type === "object" || schema.properties) {
    const made = {};
    const required = schema.required || [];
    for (const [name, about] of Object.entries(schema.properties || {})) {
      made[required.includes(name) ? name : `${name}?`] = shape(about, all, seen);
    }
    return made;
  }
  return Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "any";
}

function parameters(operation) {
  const table = make("table");
  const head = table.createTHead().insertRow();
  for (const name of ["parameter", "in", "what"]) head.append(make("th", name));
  const body = table.createTBody();
  for (const each of operation.parameters) {
    const row = body.insertRow();
    row.insertCell().append(make("code", each.name + (each.required ? "" : "?")));
    row.insertCell().textContent = each.in;
    const { type, enum: choices, minimum, maximum, default: usual, anyOf } = each.schema;
    const said = [choices ? choices.join(" | ") : type || (anyOf || []).map((kind) => kind.type).join(" | ")];
    if (minimum !== undefined) said.push(`from ${minimum}`);
    if (maximum !== undefined) said.push(`to ${maximum}`);
    if (usual !== undefined) said.push(`default ${usual}`);
    if (each.description) said.push(each.description);
    row.insertCell().textContent = said.filter(Boolean).join(", ");
  }
  return table;
}

function bodies(title, content, all) {
  const found = [];
  for (const [kind, about] of Object.entries(content || {})) {
    found.push(make("h3", `${title} ${kind}`), make("pre", JSON.stringify(shape(about.schema, all), null, 2)));
  }
  return found;
}

function draw(path, method, operation, all) {
  const box = make("details", "", { id: operation.operationId });
  const line = make("summary");
  line.append(make("span", method.toUpperCase(), { class: "method" }), make("code", path));
  line.append(make("span", ` ${operation.summary || ""}`, { class: "about" }));
  box.append(line);
  const inside = make("div", "", { class: "inside" });
  if (operation.description) inside.append(make("p", operation.description));
  inside.append(make("p", operation["x-scope"] ? `Token with scope ${operation["x-scope"]}.` : "No bearer token needed."));
  if ((operation.parameters || []).length) inside.append(parameters(operation));
  inside.append(...bodies("Body", (operation.requestBody || {}).content, all));
  for (const [status, answer] of Object.entries(operation.responses)) {
    if (status < "400") inside.append(...(answer.content ? bodies(status, answer.content, all) : [make("h3", status)]));
  }
  const refused = Object.entries(operation.responses).filter(([status]) => status >= "400");
  if (refused.length) {
    inside.append(make("h3", "Refusals"));
    const table = make("table");
    for (const [status, answer] of refused) {
      const row = table.insertRow();
      row.insertCell().append(make("code", status));
      row.insertCell().textContent = answer.description;
    }
    inside.append(table);
  }
  box.append(inside);
  return box;
}

async function show() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  const api = await answer.json();
  document.getElementById("about").textContent = `Version ${api.info.version}. ${api.info.description}`;
  const tags = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = (operation.tags || ["Other"])[0];
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push(draw(path, method, operation, api.components.schemas));
    }
  }
  for (const [path, about] of Object.entries(api["x-websockets"] || {})) {
    const tag = about.tag || "WebSockets";
    if (!tags.has(tag)) tags.set(tag, []);
    const empty = { operationId: slug(path), summary: `${about.summary} (WebSocket)`, description: about.description };
    tags.get(tag).push(draw(path, "get", { ...empty, parameters: [], responses: {} }, {}));
  }
  const nav = document.getElementById("tags");
  const main = document.getElementById("operations");
  for (const [tag, boxes] of tags) {
    nav.append(make("a", tag, { href: `#${slug(tag)}` }));
    main.append(make("h2", tag, { id: slug(tag) }), ...boxes);
  }
}

show().catch((error) => { document.getElementById("about").textContent = `The description could not be read: ${error.message}`; });
