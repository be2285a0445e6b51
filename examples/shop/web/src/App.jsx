import { useEffect, useState } from "react";
import anchor from "./anchor.svg";
import { heading } from "./heading.js";

const api = import.meta.env.VITE_API ?? "/api";

async function load(signal) {
  const answer = await fetch(`${api}/items`, { signal });
  if (!answer.ok) throw new Error(`the shop answered ${answer.status}`);
  return answer.json();
}

function price(cents) {
  return (cents / 100).toLocaleString(undefined, { style: "currency", currency: "EUR" });
}

function Items({ items }) {
  return (
    <ul>
      {items.map((item) => (
        <li key={item.id}>
          <span>{item.name}</span>
          {item.stock !== undefined && <span className="stock">{item.stock} left</span>}
          <span>{price(item.price_cents)}</span>
        </li>
      ))}
    </ul>
  );
}

export function App() {
  const [shop, setShop] = useState(null);
  const [error, setError] = useState(null);

  useEffect(() => {
    const leaving = new AbortController();
    load(leaving.signal)
      .then(setShop)
      .catch((reason) => leaving.signal.aborted || setError(reason));
    return () => leaving.abort();
  }, []);

  return (
    <main>
      <img src={anchor} alt="" width="64" height="64" />
      <h1>{heading}</h1>
      {error && <p role="alert">{error.message}</p>}
      {shop ? <Items items={shop.items} /> : !error && <p>Loading…</p>}
      {shop && <footer>version {shop.version}</footer>}
    </main>
  );
}
