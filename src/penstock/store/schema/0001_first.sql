-- Digests are 32-byte blobs. Rows have natural keys: the database refuses a second version, tick or decision.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The parts of a code digest, as JSON: thousands of steps share a few rows.
CREATE TABLE code (
    digest BLOB PRIMARY KEY,
    parts TEXT NOT NULL
) WITHOUT ROWID;

-- Argument trees, each stored once, by the digest of their text.
CREATE TABLE tree (
    digest BLOB PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;

-- Small JSON values live here, in `text`; larger ones are objects of the store. `refs`: JSON list of digests.
CREATE TABLE artifact (
    digest BLOB NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    text TEXT,
    refs TEXT,
    PRIMARY KEY (digest, format)
) WITHOUT ROWID;

-- The hit table. `outputs`: JSON [[format, digest], …] in the order of the step's outputs.
CREATE TABLE result (
    recipe BLOB PRIMARY KEY,
    code BLOB NOT NULL,
    tree BLOB NOT NULL,
    source BLOB,
    outputs TEXT NOT NULL,
    made TEXT NOT NULL
) WITHOUT ROWID;

-- Lineage: who made a digest, who used it.
CREATE TABLE result_output (
    digest BLOB NOT NULL,
    recipe BLOB NOT NULL,
    PRIMARY KEY (digest, recipe)
) WITHOUT ROWID;

CREATE TABLE result_input (
    digest BLOB NOT NULL,
    recipe BLOB NOT NULL,
    PRIMARY KEY (digest, recipe)
) WITHOUT ROWID;

-- The last decision on each step of a flow: what reasons are told against.
CREATE TABLE decided (
    flow TEXT NOT NULL,
    step TEXT NOT NULL,
    recipe BLOB NOT NULL,
    code BLOB NOT NULL,
    tree BLOB NOT NULL,
    source BLOB,
    PRIMARY KEY (flow, step)
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

-- `position` keeps the order in which rows were recorded.
CREATE TABLE step_run (
    position INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    recipe BLOB,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    outputs TEXT,
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

-- Decisions, only ever appended. The primary key is the compare-and-swap.
CREATE TABLE entry (
    stream TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    body TEXT NOT NULL,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (stream, number)
) WITHOUT ROWID;

-- What a repeated request is answered with. `result`: JSON [[stream, number], …].
CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    result TEXT NOT NULL
) WITHOUT ROWID;
