-- Version 1: the journal and the kept answers.
--
-- This runs in one transaction, with the schema as search path. Replicas of the version before go on while it
-- runs and afterwards: a later version adds functions and columns, and never changes what a function takes and
-- gives.
--
-- One step of the journal is one call of one function here: one round trip and one transaction. What makes it
-- atomic, at READ COMMITTED:
--
-- * Each statement of a function sees all that was committed before that statement began.
-- * A row changes only in an UPDATE or a DELETE that says again, in its WHERE, all that the change depends on.
--   Where somebody else changed the row first, PostgreSQL waits for his commit, asks the WHERE once more of the
--   new row, and changes nothing where it does not hold any more; the function then looks again.
-- * Rows appear only by INSERT ... ON CONFLICT DO NOTHING, under the unique key of the ids and under that of the
--   exclusive proofs: of two that want one key the second waits for the first, inserts nothing, and looks again.
--
-- A stricter isolation adds serialization failures, which are repeated, and takes nothing away.
--
-- The settings of a function: names are those of this schema, whatever its caller's are; and a plan that was made
-- when a table was small must not go on reading all of it when it has grown. No plan here is worth compiling.

SET LOCAL enable_seqscan = off;
SET LOCAL jit = off;

-- Never rolled back: no token is given out twice, not even for an id that was absent in between.
CREATE SEQUENCE tokens AS bigint;

-- Room in each page, so that most changes stay in the page and touch no index.
CREATE TABLE entries (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 32),
    -- Whether the proof can pay one challenge only, anywhere.
    exclusive boolean NOT NULL,
    proof bytea NOT NULL CHECK (octet_length(proof) = 32),
    -- 0 held, 1 settled, 2 refunding, 3 delivered, 4 refunded.
    state smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 4),
    -- Of the last lease.
    token bigint NOT NULL,
    -- Chosen by the call that was given the last lease. The same call, repeated, is given it again.
    attempt bigint NOT NULL,
    -- Whether there was a lease before that one.
    resumed boolean NOT NULL DEFAULT false,
    given_up boolean NOT NULL DEFAULT false,
    -- Instants are in milliseconds since the Unix epoch, by the merchant's clock.
    lease_until bigint NOT NULL,
    put_off bigint,
    attempts integer NOT NULL DEFAULT 0,
    keep_until bigint NOT NULL,
    -- When it may be forgotten: never while it is open.
    forget_at bigint GENERATED ALWAYS AS (CASE WHEN state >= 3 THEN greatest(keep_until, lease_until) END) STORED,
    settlement text CHECK (state = 0 OR settlement IS NOT NULL),
    reason text CHECK (state <> 2 OR reason IS NOT NULL),
    -- Nobody may give the money back unasked.
    keep_money boolean NOT NULL DEFAULT false,
    -- Delivered, and somebody asked for its money since.
    asked boolean NOT NULL DEFAULT false,
    record bytea NOT NULL
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX entries_proof ON entries (proof) WHERE exclusive;
CREATE INDEX entries_open ON entries (id) WHERE forget_at IS NULL;
CREATE INDEX entries_due ON entries (forget_at) WHERE forget_at IS NOT NULL;

-- A commit is on disk before it is answered, whatever the session or the server are set to.
CREATE FUNCTION durably() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- Answers won, resumed, settled, busy, refunding, delivered, refunded or other_proof.
CREATE FUNCTION claim(
    p_id bytea, p_exclusive boolean, p_proof bytea, p_now bigint, p_lease_until bigint, p_keep_until bigint,
    p_record bytea, p_attempt bigint,
    OUT answer text, OUT token bigint, OUT settlement text
) LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    mine entries;
    other entries;
BEGIN
    PERFORM durably();
    FOR turn IN 1..20 LOOP
        SELECT * INTO mine FROM entries WHERE id = p_id;
        IF FOUND AND mine.forget_at <= p_now THEN
            DELETE FROM entries WHERE id = p_id AND forget_at <= p_now;
            CONTINUE WHEN NOT FOUND;
        ELSIF FOUND THEN
            IF mine.exclusive <> p_exclusive OR mine.proof <> p_proof THEN
                answer := CASE WHEN mine.state = 0 THEN 'busy' ELSE 'other_proof' END;
                RETURN;
            END IF;
            IF mine.state >= 2 THEN
                answer := CASE mine.state WHEN 2 THEN 'refunding' WHEN 3 THEN 'delivered' ELSE 'refunded' END;
                RETURN;
            END IF;
            IF mine.given_up OR mine.lease_until <= p_now THEN
                UPDATE entries
                SET token = nextval('tokens'), attempt = p_attempt, resumed = true, given_up = false,
                    lease_until = p_lease_until, keep_until = greatest(keep_until, p_keep_until),
                    put_off = NULL, attempts = 0
                WHERE id = p_id AND token = mine.token AND state = mine.state AND given_up = mine.given_up
                    AND lease_until = mine.lease_until
                RETURNING * INTO mine;
                CONTINUE WHEN NOT FOUND;
            ELSIF mine.attempt <> p_attempt THEN
                answer := 'busy';
                RETURN;
            END IF;
            answer := CASE WHEN mine.state = 1 THEN 'settled' WHEN mine.resumed THEN 'resumed' ELSE 'won' END;
            token := mine.token;
            settlement := mine.settlement;
            RETURN;
        END IF;

        IF p_exclusive THEN
            SELECT * INTO other FROM entries WHERE proof = p_proof AND exclusive;
            IF FOUND AND other.forget_at <= p_now THEN
                DELETE FROM entries WHERE id = other.id AND forget_at <= p_now;
                CONTINUE WHEN NOT FOUND;
            ELSIF FOUND THEN
                answer := CASE WHEN other.state = 0 THEN 'busy' ELSE 'other_proof' END;
                RETURN;
            END IF;
        END IF;

        INSERT INTO entries (id, exclusive, proof, token, attempt, lease_until, keep_until, record)
        VALUES (p_id, p_exclusive, p_proof, nextval('tokens'), p_attempt, p_lease_until, p_keep_until, p_record)
        ON CONFLICT DO NOTHING
        RETURNING token INTO token;
        IF FOUND THEN
            answer := 'won';
            RETURN;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'the entry kept changing' USING ERRCODE = 'serialization_failure';
END
$$;

-- Why a step found no row that it fits: the lease is lost, or else what is given.
CREATE FUNCTION unless_lost(p_id bytea, p_token bigint, p_answer text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM FROM entries WHERE id = p_id AND token = p_token AND NOT given_up;
    RETURN CASE WHEN FOUND THEN p_answer ELSE 'lease_lost' END;
END
$$;

-- The steps below answer done, lease_lost or conflict.

CREATE FUNCTION renew(p_id bytea, p_token bigint, p_until bigint) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    UPDATE entries SET lease_until = p_until
    WHERE id = p_id AND token = p_token AND NOT given_up AND state < 3;
    RETURN CASE WHEN FOUND THEN 'done' ELSE unless_lost(p_id, p_token, 'done') END;
END
$$;

CREATE FUNCTION settle(p_id bytea, p_token bigint, p_settlement text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    UPDATE entries SET state = 1, settlement = p_settlement, put_off = NULL, attempts = 0
    WHERE id = p_id AND token = p_token AND NOT given_up AND state = 0;
    IF FOUND THEN
        RETURN 'done';
    END IF;
    PERFORM FROM entries
    WHERE id = p_id AND token = p_token AND NOT given_up AND state = 1 AND settlement = p_settlement;
    RETURN CASE WHEN FOUND THEN 'done' ELSE unless_lost(p_id, p_token, 'conflict') END;
END
$$;

CREATE FUNCTION refund(p_id bytea, p_token bigint, p_reason text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    UPDATE entries SET state = 2, reason = p_reason, put_off = NULL, attempts = 0
    WHERE id = p_id AND token = p_token AND NOT given_up AND (state = 1 OR (state = 3 AND asked));
    IF FOUND THEN
        RETURN 'done';
    END IF;
    PERFORM FROM entries
    WHERE id = p_id AND token = p_token AND NOT given_up AND state = 2 AND reason = p_reason;
    RETURN CASE WHEN FOUND THEN 'done' ELSE unless_lost(p_id, p_token, 'conflict') END;
END
$$;

-- The end is 3, delivered, or 4, refunded.
CREATE FUNCTION commit(p_id bytea, p_token bigint, p_end smallint) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    UPDATE entries SET state = p_end, put_off = NULL, attempts = 0
    WHERE id = p_id AND token = p_token AND NOT given_up
        AND ((state = 1 AND p_end = 3) OR (state = 2 AND p_end = 4));
    IF FOUND THEN
        RETURN 'done';
    END IF;
    PERFORM FROM entries WHERE id = p_id AND token = p_token AND NOT given_up AND state = p_end;
    RETURN CASE WHEN FOUND THEN 'done' ELSE unless_lost(p_id, p_token, 'conflict') END;
END
$$;

-- The reason is not_charged, unknown, undelivered or not_refundable.
CREATE FUNCTION release(p_id bytea, p_token bigint, p_reason text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
DECLARE
    known entries;
    next smallint;
BEGIN
    PERFORM durably();
    SELECT * INTO known FROM entries WHERE id = p_id AND token = p_token AND NOT given_up FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'lease_lost';
    END IF;
    IF known.state = 0 AND p_reason = 'not_charged' THEN
        DELETE FROM entries WHERE id = p_id;
        RETURN 'done';
    END IF;
    next := CASE
        WHEN known.state = 0 AND p_reason = 'unknown' THEN 0
        WHEN known.state = 1 AND p_reason IN ('undelivered', 'not_refundable') THEN 1
        WHEN known.state = 2 AND p_reason = 'not_refundable' THEN CASE WHEN known.asked THEN 3 ELSE 1 END
        WHEN known.state = 3 AND p_reason = 'undelivered' AND NOT known.asked THEN 1
    END;
    IF next IS NULL THEN
        RETURN 'conflict';
    END IF;
    UPDATE entries
    SET state = next, given_up = true, put_off = NULL, attempts = 0,
        keep_money = keep_money OR (next = 1 AND p_reason = 'not_refundable')
    WHERE id = p_id;
    RETURN 'done';
END
$$;

CREATE FUNCTION put_off(p_id bytea, p_token bigint, p_until bigint) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    UPDATE entries SET given_up = true, put_off = p_until, attempts = least(attempts, 2147483646) + 1
    WHERE id = p_id AND token = p_token AND NOT given_up;
    RETURN CASE WHEN FOUND THEN 'done' ELSE 'lease_lost' END;
END
$$;

-- Answers won, busy, delivered, refunded or absent.
CREATE FUNCTION take(
    p_id bytea, p_now bigint, p_lease_until bigint, p_asked_for boolean, p_attempt bigint,
    OUT answer text, OUT token bigint,
    OUT id bytea, OUT exclusive boolean, OUT proof bytea, OUT state smallint, OUT settlement text, OUT reason text,
    OUT keep_money boolean, OUT lease_until bigint, OUT put_off bigint, OUT attempts integer, OUT keep_until bigint,
    OUT record bytea
) LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    mine entries;
BEGIN
    PERFORM durably();
    FOR turn IN 1..20 LOOP
        SELECT * INTO mine FROM entries WHERE id = p_id;
        IF NOT FOUND OR mine.forget_at <= p_now THEN
            answer := 'absent';
            RETURN;
        END IF;
        IF mine.state = 4 OR (mine.state = 3 AND NOT p_asked_for) THEN
            answer := CASE mine.state WHEN 3 THEN 'delivered' ELSE 'refunded' END;
            RETURN;
        END IF;
        IF NOT mine.given_up AND p_now < mine.lease_until THEN
            IF mine.attempt <> p_attempt THEN
                answer := 'busy';
                RETURN;
            END IF;
        ELSIF NOT p_asked_for AND mine.put_off > p_now THEN
            answer := 'busy';
            RETURN;
        ELSE
            UPDATE entries
            SET token = nextval('tokens'), attempt = p_attempt, resumed = true, given_up = false,
                lease_until = p_lease_until, asked = asked OR state = 3
            WHERE id = p_id AND token = mine.token AND state = mine.state AND given_up = mine.given_up
                AND lease_until = mine.lease_until
            RETURNING * INTO mine;
            CONTINUE WHEN NOT FOUND;
        END IF;
        answer := 'won';
        token := mine.token;
        id := mine.id;
        exclusive := mine.exclusive;
        proof := mine.proof;
        state := mine.state;
        settlement := mine.settlement;
        reason := mine.reason;
        keep_money := mine.keep_money;
        lease_until := mine.lease_until;
        put_off := mine.put_off;
        attempts := mine.attempts;
        keep_until := mine.keep_until;
        record := mine.record;
        RETURN;
    END LOOP;
    RAISE EXCEPTION 'the entry kept changing' USING ERRCODE = 'serialization_failure';
END
$$;

CREATE FUNCTION find(p_id bytea) RETURNS TABLE (
    id bytea, exclusive boolean, proof bytea, state smallint, settlement text, reason text, keep_money boolean,
    lease_until bigint, put_off bigint, attempts integer, keep_until bigint, record bytea
) LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT id, exclusive, proof, state, settlement, reason, keep_money, lease_until, put_off, attempts, keep_until,
        record
    FROM entries WHERE id = p_id
$$;

-- After an empty id comes the first of all.
CREATE FUNCTION unfinished(p_now bigint, p_after bytea, p_limit bigint, p_due boolean) RETURNS TABLE (
    id bytea, exclusive boolean, proof bytea, state smallint, settlement text, reason text, keep_money boolean,
    lease_until bigint, put_off bigint, attempts integer, keep_until bigint, record bytea
) LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT id, exclusive, proof, state, settlement, reason, keep_money, lease_until, put_off, attempts, keep_until,
        record
    FROM entries
    WHERE forget_at IS NULL AND id > p_after AND (given_up OR lease_until <= p_now)
        AND (NOT p_due OR put_off IS NULL OR put_off <= p_now)
    ORDER BY id
    LIMIT p_limit
$$;

-- Two of these at once drop different rows.
CREATE FUNCTION forget(p_now bigint, p_limit bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
DECLARE
    dropped bigint;
BEGIN
    WITH due AS MATERIALIZED (
        SELECT id FROM entries WHERE forget_at <= p_now ORDER BY forget_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM entries USING due WHERE entries.id = due.id;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    RETURN dropped;
END
$$;

CREATE TABLE answers (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 32),
    -- Of the last lease that has reserved it.
    token bigint NOT NULL,
    request bytea NOT NULL CHECK (octet_length(request) = 32),
    until bigint NOT NULL,
    keep_until bigint NOT NULL,
    answer bytea
);

-- Most of them do not get smaller: they are encrypted, or compressed already.
ALTER TABLE answers ALTER COLUMN answer SET STORAGE EXTERNAL;

CREATE INDEX answers_due ON answers (keep_until);

-- How many bytes the answers take, in parts so that steps for different payments seldom wait for each other. Where a
-- step changes several parts it does so in their order.
CREATE TABLE answer_bytes (part integer PRIMARY KEY, bytes bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO answer_bytes SELECT part, 0 FROM generate_series(0, 15) AS part;

-- About what a row takes in the table and in its indexes, beside the answer.
CREATE FUNCTION row_bytes() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 256::bigint';

CREATE FUNCTION answer_part(p_id bytea) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT get_byte(p_id, 0) & 15';

-- Answers done, full or lost. Several at once may go beyond the limit together, by what they add.
CREATE FUNCTION reserve_answer(
    p_id bytea, p_token bigint, p_request bytea, p_now bigint, p_until bigint, p_keep_until bigint, p_max_bytes bigint
) RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
DECLARE
    known answers;
    more bigint;
BEGIN
    PERFORM durably();
    LOOP
        SELECT * INTO known FROM answers WHERE id = p_id FOR UPDATE;
        IF FOUND AND known.keep_until > p_now THEN
            IF known.token > p_token THEN
                RETURN 'lost';
            END IF;
            UPDATE answers SET token = p_token, request = p_request, until = p_until,
                keep_until = greatest(keep_until, p_keep_until)
            WHERE id = p_id AND answer IS NULL;
            RETURN 'done';
        END IF;
        more := row_bytes();
        IF FOUND THEN
            DELETE FROM answers WHERE id = p_id;
            more := -coalesce(octet_length(known.answer), 0);
        ELSIF (SELECT sum(bytes) FROM answer_bytes WHERE part >= 0) + more > p_max_bytes THEN
            RETURN 'full';
        END IF;
        INSERT INTO answers (id, token, request, until, keep_until)
        VALUES (p_id, p_token, p_request, p_until, p_keep_until)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            UPDATE answer_bytes SET bytes = bytes + more WHERE part = answer_part(p_id);
            RETURN 'done';
        END IF;
        -- Another holder of a lease was first: his row decides.
    END LOOP;
END
$$;

CREATE FUNCTION keep_answer(
    p_id bytea, p_token bigint, p_answer bytea, p_keep_until bigint, p_max_bytes bigint
) RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
DECLARE
    complete boolean;
BEGIN
    PERFORM durably();
    SELECT answer IS NOT NULL INTO complete FROM answers WHERE id = p_id AND token = p_token FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'lost';
    ELSIF complete THEN
        RETURN 'done';
    END IF;
    IF (SELECT sum(bytes) FROM answer_bytes WHERE part >= 0) + octet_length(p_answer) > p_max_bytes THEN
        RETURN 'full';
    END IF;
    UPDATE answers SET answer = p_answer, keep_until = greatest(keep_until, p_keep_until) WHERE id = p_id;
    UPDATE answer_bytes SET bytes = bytes + octet_length(p_answer) WHERE part = answer_part(p_id);
    RETURN 'done';
END
$$;

-- The row stays, so that no older lease can reserve again.
CREATE FUNCTION give_up_answer(p_id bytea, p_token bigint) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
BEGIN
    PERFORM durably();
    UPDATE answers SET until = 0 WHERE id = p_id AND token = p_token AND answer IS NULL;
    RETURN 'done';
END
$$;

CREATE FUNCTION find_answer(p_id bytea, p_now bigint) RETURNS TABLE (request bytea, until bigint, answer bytea)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
    SELECT request, until, answer FROM answers WHERE id = p_id AND keep_until > p_now
$$;

CREATE FUNCTION forget_answers(p_now bigint, p_limit bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan FROM CURRENT SET jit FROM CURRENT AS $$
DECLARE
    dropped bigint := 0;
    freed record;
BEGIN
    FOR freed IN
        WITH due AS MATERIALIZED (
            SELECT id FROM answers WHERE keep_until <= p_now ORDER BY keep_until LIMIT p_limit
            FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM answers USING due WHERE answers.id = due.id
            RETURNING answer_part(answers.id) AS part, row_bytes() + coalesce(octet_length(answer), 0) AS bytes
        )
        SELECT part, sum(bytes) AS bytes, count(*) AS count FROM gone GROUP BY part ORDER BY part
    LOOP
        UPDATE answer_bytes SET bytes = bytes - freed.bytes WHERE part = freed.part;
        dropped := dropped + freed.count;
    END LOOP;
    RETURN dropped;
END
$$;
