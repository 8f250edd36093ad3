/** The demo's tables; statements that change nothing where they are there already. */
export const shopSchema = `
  CREATE SCHEMA IF NOT EXISTS shop;
  CREATE TABLE IF NOT EXISTS shop.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    country char(2) NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE IF NOT EXISTS shop.products (
    sku text PRIMARY KEY,
    title text NOT NULL,
    price numeric(10, 2) NOT NULL,
    stock integer NOT NULL,
    tags text[] NOT NULL DEFAULT '{}'
  );
  CREATE TABLE IF NOT EXISTS shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES shop.customers,
    sku text NOT NULL REFERENCES shop.products,
    quantity integer NOT NULL,
    total numeric(12, 2) NOT NULL,
    status text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now(),
    details jsonb
  );
`

/** Rows for empty tables: the shop's first year. */
export const shopSeed: readonly string[] = [
  `INSERT INTO shop.customers (name, email, country, joined_at)
   SELECT 'Customer ' || n, 'customer' || n || '@example.com', (ARRAY['DE', 'FR', 'IN', 'JP', 'NG', 'US', 'BR'])[1 + n % 7],
          now() - random() * interval '365 days'
   FROM generate_series(1, 2000) n WHERE NOT EXISTS (SELECT FROM shop.customers)`,
  `INSERT INTO shop.products (sku, title, price, stock, tags)
   SELECT 'SKU-' || lpad(n::text, 4, '0'), (ARRAY['Lamp', 'Chair', 'Kettle', 'Rug', 'Clock'])[1 + n % 5] || ' No. ' || n,
          round((5 + random() * 200)::numeric, 2), 1000, ARRAY[(ARRAY['new', 'sale', 'classic'])[1 + n % 3], 'home']
   FROM generate_series(1, 200) n WHERE NOT EXISTS (SELECT FROM shop.products)`,
  `INSERT INTO shop.orders (customer_id, sku, quantity, total, status, placed_at, details)
   SELECT 1 + (random() * 1999)::int, sku, quantity, price * quantity, 'shipped', now() - random() * interval '365 days',
          jsonb_build_object('channel', (ARRAY['web', 'app', 'store'])[1 + n % 3])
   FROM (SELECT n, 'SKU-' || lpad((1 + (random() * 199)::int)::text, 4, '0') AS wanted, 1 + (random() * 4)::int AS quantity
         FROM generate_series(1, 50000) n) o JOIN shop.products p ON p.sku = o.wanted
   WHERE NOT EXISTS (SELECT FROM shop.orders)`,
]

/** One moment in the shop: an order is placed and its stock taken, others move on, an old one goes now and then. */
export const shopMoment: readonly string[] = [
  `WITH chosen AS (SELECT sku, price, 1 + (random() * 3)::int AS quantity FROM shop.products ORDER BY random() LIMIT 1),
        sold AS (UPDATE shop.products p SET stock = CASE WHEN p.stock < 10 THEN 1000 ELSE p.stock - c.quantity END FROM chosen c WHERE p.sku = c.sku)
   INSERT INTO shop.orders (customer_id, sku, quantity, total, status, details)
   SELECT 1 + (random() * 1999)::int, sku, quantity, price * quantity, 'new', jsonb_build_object('channel', 'web') FROM chosen`,
  `UPDATE shop.orders SET status = CASE status WHEN 'new' THEN 'paid' ELSE 'shipped' END
   WHERE id IN (SELECT id FROM shop.orders WHERE status <> 'shipped' AND placed_at < now() - interval '5 seconds' ORDER BY id LIMIT 2)`,
  `DELETE FROM shop.orders WHERE random() < 0.2 AND id = (SELECT min(id) FROM shop.orders)`,
]
