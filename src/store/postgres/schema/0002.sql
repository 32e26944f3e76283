-- Version 2: the ledger of signed receipts.
--
-- As in version 1, one step is one call of one function, and repeated calls do no harm: the same receipt and the
-- same outcome are added once.
--
-- The public list is paged by the numbers of its rows. Rows with numbers from a sequence may be committed in another
-- order, and then one appears among those that somebody has read already: who reads on from where he was never sees
-- it. So listed receipts are added one after the other, under an advisory lock that ends with the transaction, and a
-- number that appears later is greater. The sums would make them wait for each other anyway: nearly all of them
-- change the row of the same day. An order by transaction id, shown up to the oldest transaction that is still open,
-- needs no lock, but any long transaction on the server would hold the list up. Receipts that are not listed take no
-- lock.
--
-- At REPEATABLE READ or stricter, listed receipts that are added at once collide and are repeated; that is slow and
-- may fail. Leave default_transaction_isolation as it is for this role.
--
-- Texts are in columns of bytes: they come back as they are, with zero characters too, and names are compared and
-- ordered by their bytes, whatever the collation of the database is.

-- Lists are read in the order of an index, as far as their limit goes: a plan that first finds all rows and then sorts
-- them may be the better one while there are few, and is a catastrophe once there are many.

SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_sort = off;
SET LOCAL jit = off;

CREATE TABLE receipts (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bytea NOT NULL CHECK (octet_length(id) = 16),
    provisional boolean NOT NULL,
    parent bytea CHECK (octet_length(parent) = 16),
    payment bytea CHECK (octet_length(payment) = 32),
    visibility text NOT NULL,
    -- In milliseconds since the Unix epoch, by the merchant's clock.
    created_at bigint NOT NULL,
    -- What is counted of it, all of these or none.
    name bytea,
    succeeded boolean,
    paid boolean,
    -- 64 bits without a sign.
    tokens bigint,
    public bytea,
    "full" bytea NOT NULL,
    UNIQUE (id, provisional),
    CHECK (num_nulls(name, succeeded, paid, tokens) IN (0, 4))
);

CREATE INDEX receipts_payment ON receipts (payment, number) WHERE NOT provisional AND payment IS NOT NULL;
CREATE INDEX receipts_parent ON receipts (parent, number) WHERE NOT provisional AND parent IS NOT NULL;
CREATE INDEX receipts_listed ON receipts (number) WHERE NOT provisional AND name IS NOT NULL AND public IS NOT NULL;

CREATE TABLE outcomes (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    receipt bytea NOT NULL CHECK (octet_length(receipt) = 16),
    created_at bigint NOT NULL,
    json bytea NOT NULL
);

CREATE INDEX outcomes_receipt ON outcomes (receipt, number);
CREATE UNIQUE INDEX outcomes_once ON outcomes (receipt, created_at, sha256(json));

-- Sums over the public list. They stop at what fits.
CREATE TABLE receipt_names (
    name bytea PRIMARY KEY,
    receipts bigint NOT NULL,
    succeeded bigint NOT NULL,
    tokens bigint NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX receipt_names_rank ON receipt_names (receipts DESC, name);

CREATE TABLE receipt_days (day bigint PRIMARY KEY, paid bigint NOT NULL) WITH (fillfactor = 10);

-- Who owns the tables can drop these too: that a receipt was changed then shows in its signature.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are never changed', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER stay BEFORE UPDATE OR DELETE ON receipts FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER remain BEFORE TRUNCATE ON receipts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER stay BEFORE UPDATE OR DELETE ON outcomes FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER remain BEFORE TRUNCATE ON outcomes FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE receipts ENABLE ALWAYS TRIGGER stay;
ALTER TABLE receipts ENABLE ALWAYS TRIGGER remain;
ALTER TABLE outcomes ENABLE ALWAYS TRIGGER stay;
ALTER TABLE outcomes ENABLE ALWAYS TRIGGER remain;

-- Answers done or conflict. p_counted is what the tokens add to the sum.
CREATE FUNCTION append_receipt(
    p_id bytea, p_provisional boolean, p_parent bytea, p_payment bytea, p_visibility text, p_created_at bigint,
    p_name bytea, p_succeeded boolean, p_paid boolean, p_tokens bigint, p_public bytea, p_full bytea,
    p_counted bigint, p_day bigint
) RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
DECLARE
    in_list boolean := NOT p_provisional AND p_name IS NOT NULL AND p_public IS NOT NULL;
BEGIN
    PERFORM durably();
    IF in_list THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('tower-mpp receipts ' || current_schema(), 0));
    END IF;
    INSERT INTO receipts (
        id, provisional, parent, payment, visibility, created_at, name, succeeded, paid, tokens, public, "full"
    ) VALUES (
        p_id, p_provisional, p_parent, p_payment, p_visibility, p_created_at, p_name, p_succeeded, p_paid, p_tokens,
        p_public, p_full
    ) ON CONFLICT (id, provisional) DO NOTHING;
    IF NOT FOUND THEN
        PERFORM FROM receipts
        WHERE id = p_id AND provisional = p_provisional
            AND (parent, payment, visibility, created_at, name, succeeded, paid, tokens, public, "full")
                IS NOT DISTINCT FROM (p_parent, p_payment, p_visibility, p_created_at, p_name, p_succeeded, p_paid,
                    p_tokens, p_public, p_full);
        RETURN CASE WHEN FOUND THEN 'done' ELSE 'conflict' END;
    END IF;
    IF in_list THEN
        INSERT INTO receipt_names AS sums (name, receipts, succeeded, tokens)
        VALUES (p_name, 1, p_succeeded::integer, p_counted)
        ON CONFLICT (name) DO UPDATE
        SET receipts = sums.receipts + 1, succeeded = sums.succeeded + excluded.succeeded,
            tokens = sums.tokens + least(excluded.tokens, 9223372036854775807 - sums.tokens);
        IF p_paid THEN
            INSERT INTO receipt_days AS sums (day, paid) VALUES (p_day, 1)
            ON CONFLICT (day) DO UPDATE SET paid = sums.paid + 1;
        END IF;
    END IF;
    RETURN 'done';
END
$$;

-- The final one, or else the provisional one.
CREATE FUNCTION find_receipt(p_id bytea) RETURNS SETOF receipts
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET enable_bitmapscan FROM CURRENT
    SET enable_sort FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT * FROM receipts WHERE id = p_id ORDER BY provisional LIMIT 1
$$;

CREATE FUNCTION receipts_of_payment(p_payment bytea, p_limit bigint) RETURNS SETOF receipts
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET enable_bitmapscan FROM CURRENT
    SET enable_sort FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT * FROM receipts WHERE payment = p_payment AND NOT provisional ORDER BY number LIMIT p_limit
$$;

CREATE FUNCTION receipts_of_parent(p_parent bytea, p_limit bigint) RETURNS SETOF receipts
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET enable_bitmapscan FROM CURRENT
    SET enable_sort FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT * FROM receipts WHERE parent = p_parent AND NOT provisional ORDER BY number LIMIT p_limit
$$;

-- Up to the one with which they are longer than a mebibyte together, but not to the first: the page ends before that
-- one, and the next page begins with it.
CREATE FUNCTION public_receipts(p_before bigint, p_limit bigint) RETURNS TABLE (number bigint, public bytea)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET enable_bitmapscan FROM CURRENT
    SET enable_sort FROM CURRENT SET jit FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    rows bigint := 0;
    bytes bigint := 0;
BEGIN
    FOR number, public IN
        SELECT number, public FROM receipts
        WHERE NOT provisional AND name IS NOT NULL AND public IS NOT NULL AND number < p_before
        ORDER BY number DESC LIMIT p_limit
    LOOP
        RETURN NEXT;
        rows := rows + 1;
        bytes := bytes + octet_length(public);
        EXIT WHEN rows > 1 AND bytes > 1048576;
    END LOOP;
END
$$;

-- The names first, each with its sums; then the days, with what was paid for as the number of receipts.
CREATE FUNCTION receipt_totals(p_names bigint, p_since bigint)
RETURNS TABLE (name bytea, day bigint, receipts bigint, succeeded bigint, tokens bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET enable_bitmapscan FROM CURRENT
    SET enable_sort FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    RETURN QUERY SELECT sums.name, NULL::bigint, sums.receipts, sums.succeeded, sums.tokens FROM receipt_names AS sums
        ORDER BY sums.receipts DESC, sums.name LIMIT p_names;
    RETURN QUERY SELECT NULL::bytea, sums.day, sums.paid, NULL::bigint, NULL::bigint FROM receipt_days AS sums
        WHERE sums.day >= p_since ORDER BY sums.day;
END
$$;

CREATE FUNCTION append_outcome(p_receipt bytea, p_created_at bigint, p_json bytea) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    INSERT INTO outcomes (receipt, created_at, json) VALUES (p_receipt, p_created_at, p_json) ON CONFLICT DO NOTHING;
    RETURN 'done';
END
$$;

CREATE FUNCTION find_outcomes(p_receipt bytea, p_limit bigint) RETURNS TABLE (created_at bigint, json bytea)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET enable_bitmapscan FROM CURRENT
    SET enable_sort FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT created_at, json FROM outcomes WHERE receipt = p_receipt ORDER BY number LIMIT p_limit
$$;
