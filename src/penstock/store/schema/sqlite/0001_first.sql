-- Digests are 32-byte blobs. Natural keys are constraints: the database refuses a second version or decision.
-- Wide rows that are found by a random digest are appended under a small id, with an index for the digest: keyed
-- by it, each of the 200 rows of a group would rewrite a page of its own (a commit was four times slower).

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The parts of a code digest, as JSON: thousands of steps share a few rows.
CREATE TABLE code (
    digest BLOB PRIMARY KEY,
    parts TEXT NOT NULL
) WITHOUT ROWID;

-- Small JSON values live here, in `text`; larger ones are objects of the store. `refs`: JSON list of digests.
CREATE TABLE artifact (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    text TEXT,
    refs TEXT,
    UNIQUE (digest, format)
);

-- The hit table. `tree`: the argument tree as JSON. `outputs`: the id of the artifact, or a JSON list of ids.
CREATE TABLE result (
    id INTEGER PRIMARY KEY,
    recipe BLOB NOT NULL UNIQUE,
    code BLOB NOT NULL,
    tree TEXT NOT NULL,
    source BLOB,
    outputs NOT NULL,
    made TEXT NOT NULL
);

-- Lineage backwards: who made an artifact.
CREATE TABLE result_output (
    artifact INTEGER NOT NULL,
    result INTEGER NOT NULL,
    PRIMARY KEY (artifact, result)
) WITHOUT ROWID;

-- Lineage forwards: which trees name a digest, by its first eight bytes; the tree itself has the last word.
CREATE TABLE result_input (
    prefix INTEGER NOT NULL,
    result INTEGER NOT NULL,
    PRIMARY KEY (prefix, result)
) WITHOUT ROWID;

-- The last decision on each step of a flow: what reasons are told against. Where its recipe gave a result, that
-- row has the rest (an argument tree is stored once); else `rest` is JSON [recipe, code, tree, source].
CREATE TABLE decided (
    flow TEXT NOT NULL,
    step TEXT NOT NULL,
    result INTEGER,
    rest TEXT,
    PRIMARY KEY (flow, step),
    CHECK ((result IS NULL) <> (rest IS NULL))
) WITHOUT ROWID;

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    flow TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    counts TEXT NOT NULL,
    info TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX run_started ON run (started);

-- `position` keeps the order in which rows were recorded. `outputs` as in `result`.
CREATE TABLE step_run (
    position INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    recipe BLOB,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    outputs,
    error TEXT,
    notes TEXT,
    started REAL NOT NULL,
    wall_s REAL NOT NULL,
    cpu_s REAL NOT NULL,
    peak_bytes INTEGER NOT NULL,
    UNIQUE (run, step, attempt)
);

-- `stat`: JSON [size, mtime_ns, inode]; an inode number may be larger than SQLite's integers.
CREATE TABLE source (
    path TEXT PRIMARY KEY,
    stat TEXT NOT NULL,
    digest BLOB NOT NULL
) WITHOUT ROWID;

-- Decisions, only ever appended. The primary key is the compare-and-swap. `seal`: digest of the other columns,
-- verified on every read: SQLite itself has no checksums.
CREATE TABLE entry (
    stream TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    body TEXT NOT NULL,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    seal BLOB NOT NULL,
    PRIMARY KEY (stream, number)
) WITHOUT ROWID;

-- What a repeated request is answered with. `result`: JSON [[stream, number], …].
CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    result TEXT NOT NULL
) WITHOUT ROWID;
