--
-- PostgreSQL database dump
--

\restrict ixvVvM851fNY1W0p2D9JpkTvHKCmE3xl7ujWwvvMw7QA4HyStWNPzhNqOVkiP04

-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: record_only_grows(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.record_only_grows() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'the record is append-only'; END $$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alert_views; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_views (
    alert bigint NOT NULL,
    person bigint NOT NULL,
    at double precision NOT NULL
);


--
-- Name: alerts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alerts (
    id bigint NOT NULL,
    "row" bigint NOT NULL,
    person bigint,
    task text NOT NULL,
    probability double precision,
    at double precision NOT NULL,
    handled_by bigint,
    handled_at double precision
);


--
-- Name: alerts_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.alerts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: alerts_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.alerts_id_seq OWNED BY public.alerts.id;


--
-- Name: anchors; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.anchors (
    id bigint NOT NULL,
    task text NOT NULL,
    level integer NOT NULL,
    text text NOT NULL,
    note text NOT NULL
);


--
-- Name: anchors_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.anchors_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: anchors_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.anchors_id_seq OWNED BY public.anchors.id;


--
-- Name: api_rows; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.api_rows (
    "row" bigint NOT NULL,
    token text NOT NULL,
    task text NOT NULL,
    name text NOT NULL,
    at double precision NOT NULL
);


--
-- Name: assignments; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.assignments (
    id bigint NOT NULL,
    person bigint NOT NULL,
    tasks text NOT NULL,
    quota integer
);


--
-- Name: assignments_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.assignments_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: assignments_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.assignments_id_seq OWNED BY public.assignments.id;


--
-- Name: attempts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.attempts (
    id bigint NOT NULL,
    subject text NOT NULL,
    at double precision NOT NULL
);


--
-- Name: attempts_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.attempts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: attempts_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.attempts_id_seq OWNED BY public.attempts.id;


--
-- Name: batches; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.batches (
    id text NOT NULL,
    token text NOT NULL,
    patterns text NOT NULL,
    state text NOT NULL,
    counts text NOT NULL,
    errors text NOT NULL,
    times text NOT NULL,
    created_at double precision NOT NULL,
    changed_at double precision NOT NULL
);


--
-- Name: decisions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.decisions (
    id bigint NOT NULL,
    read bigint NOT NULL,
    "row" bigint NOT NULL,
    person bigint NOT NULL,
    task text NOT NULL,
    kind text NOT NULL,
    round integer NOT NULL,
    level integer,
    code text NOT NULL,
    saw text NOT NULL,
    at double precision NOT NULL,
    spent_s double precision NOT NULL,
    lead bigint,
    size integer NOT NULL,
    fast boolean NOT NULL,
    compared boolean NOT NULL,
    undone boolean NOT NULL
);


--
-- Name: decisions_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.decisions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: decisions_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.decisions_id_seq OWNED BY public.decisions.id;


--
-- Name: deliveries; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.deliveries (
    number bigint NOT NULL,
    id text NOT NULL,
    webhook text NOT NULL,
    subject text NOT NULL,
    type text NOT NULL,
    body text NOT NULL,
    created_at double precision NOT NULL,
    due_at double precision NOT NULL,
    attempts integer NOT NULL,
    state text NOT NULL,
    answer text NOT NULL
);


--
-- Name: deliveries_number_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.deliveries_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: deliveries_number_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.deliveries_number_seq OWNED BY public.deliveries.number;


--
-- Name: idempotency; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.idempotency (
    token text NOT NULL,
    key text NOT NULL,
    digest text NOT NULL,
    status integer,
    answer bytea,
    at double precision NOT NULL
);


--
-- Name: messages; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messages (
    entry bigint NOT NULL,
    read bigint NOT NULL,
    rater bigint NOT NULL,
    person bigint NOT NULL,
    at double precision NOT NULL
);


--
-- Name: people; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.people (
    id bigint NOT NULL,
    name text NOT NULL,
    password text,
    role text NOT NULL,
    active boolean NOT NULL
);


--
-- Name: people_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.people_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: people_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.people_id_seq OWNED BY public.people.id;


--
-- Name: pool_members; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pool_members (
    pool bigint NOT NULL,
    person bigint NOT NULL
);


--
-- Name: pools; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pools (
    id bigint NOT NULL,
    name text NOT NULL,
    assignments text NOT NULL
);


--
-- Name: pools_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.pools_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: pools_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.pools_id_seq OWNED BY public.pools.id;


--
-- Name: queues; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.queues (
    task text NOT NULL,
    reason text NOT NULL,
    waiting integer NOT NULL,
    done integer NOT NULL,
    spent_s double precision NOT NULL
);


--
-- Name: reads; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.reads (
    id bigint NOT NULL,
    "row" bigint NOT NULL,
    kind text NOT NULL,
    round integer NOT NULL,
    task text NOT NULL,
    reason text NOT NULL,
    priority double precision NOT NULL,
    state text NOT NULL,
    not_for bigint,
    only_for bigint,
    person bigint,
    token text,
    lead bigint,
    leased_at double precision,
    shown_at double precision,
    lease_until double precision
);


--
-- Name: reads_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.reads_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: reads_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.reads_id_seq OWNED BY public.reads.id;


--
-- Name: record; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.record (
    number bigint NOT NULL,
    entry text NOT NULL,
    digest text NOT NULL,
    "row" bigint
);


--
-- Name: remarks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.remarks (
    entry bigint NOT NULL,
    "row" bigint NOT NULL,
    text text NOT NULL
);


--
-- Name: rows; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rows (
    id bigint NOT NULL,
    source text NOT NULL,
    line bigint NOT NULL,
    name text NOT NULL,
    task text NOT NULL,
    text text NOT NULL,
    status text NOT NULL,
    level integer NOT NULL,
    probabilities text NOT NULL,
    confidence double precision,
    level_low integer,
    level_high integer,
    condition text NOT NULL,
    route text NOT NULL,
    read_behind double precision,
    version text NOT NULL,
    chosen_by text NOT NULL,
    reason text NOT NULL,
    priority double precision NOT NULL,
    known_level integer,
    folded_key bigint NOT NULL,
    administration text NOT NULL,
    student text NOT NULL,
    kept text NOT NULL,
    salt text NOT NULL,
    digest text NOT NULL,
    state text NOT NULL,
    round integer NOT NULL,
    final_level integer,
    final_code text NOT NULL,
    final_decision bigint
);


--
-- Name: rows_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.rows_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: rows_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.rows_id_seq OWNED BY public.rows.id;


--
-- Name: sessions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sessions (
    digest text NOT NULL,
    person bigint NOT NULL,
    form_key text NOT NULL,
    expires_at double precision NOT NULL,
    task text NOT NULL,
    reason text NOT NULL
);


--
-- Name: settings; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.settings (
    key text NOT NULL,
    value text NOT NULL
);


--
-- Name: standings; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.standings (
    person bigint NOT NULL,
    task text NOT NULL,
    state text NOT NULL,
    since bigint NOT NULL,
    exact integer,
    papers integer
);


--
-- Name: tasks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tasks (
    id text NOT NULL,
    levels text NOT NULL,
    texts text NOT NULL,
    paused boolean NOT NULL
);


--
-- Name: webhooks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.webhooks (
    id text NOT NULL,
    token text NOT NULL,
    url text NOT NULL,
    events text NOT NULL,
    secrets text NOT NULL,
    created_at double precision NOT NULL
);


--
-- Name: alerts id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alerts ALTER COLUMN id SET DEFAULT nextval('public.alerts_id_seq'::regclass);


--
-- Name: anchors id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.anchors ALTER COLUMN id SET DEFAULT nextval('public.anchors_id_seq'::regclass);


--
-- Name: assignments id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.assignments ALTER COLUMN id SET DEFAULT nextval('public.assignments_id_seq'::regclass);


--
-- Name: attempts id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attempts ALTER COLUMN id SET DEFAULT nextval('public.attempts_id_seq'::regclass);


--
-- Name: decisions id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions ALTER COLUMN id SET DEFAULT nextval('public.decisions_id_seq'::regclass);


--
-- Name: deliveries number; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.deliveries ALTER COLUMN number SET DEFAULT nextval('public.deliveries_number_seq'::regclass);


--
-- Name: people id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.people ALTER COLUMN id SET DEFAULT nextval('public.people_id_seq'::regclass);


--
-- Name: pools id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pools ALTER COLUMN id SET DEFAULT nextval('public.pools_id_seq'::regclass);


--
-- Name: reads id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reads ALTER COLUMN id SET DEFAULT nextval('public.reads_id_seq'::regclass);


--
-- Name: rows id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rows ALTER COLUMN id SET DEFAULT nextval('public.rows_id_seq'::regclass);


--
-- Data for Name: alert_views; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.alert_views (alert, person, at) FROM stdin;
\.


--
-- Data for Name: alerts; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.alerts (id, "row", person, task, probability, at, handled_by, handled_at) FROM stdin;
\.


--
-- Data for Name: anchors; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.anchors (id, task, level, text, note) FROM stdin;
\.


--
-- Data for Name: api_rows; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.api_rows ("row", token, task, name, at) FROM stdin;
\.


--
-- Data for Name: assignments; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.assignments (id, person, tasks, quota) FROM stdin;
\.


--
-- Data for Name: attempts; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.attempts (id, subject, at) FROM stdin;
\.


--
-- Data for Name: batches; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.batches (id, token, patterns, state, counts, errors, times, created_at, changed_at) FROM stdin;
\.


--
-- Data for Name: decisions; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.decisions (id, read, "row", person, task, kind, round, level, code, saw, at, spent_s, lead, size, fast, compared, undone) FROM stdin;
1	55	115	1	tree	first	1	1		blind	1796116369.9141912	2.063	\N	1	f	f	f
2	1	61	1	tree	first	1	1		blind	1796116372.1137314	2.133	\N	1	f	f	f
\.


--
-- Data for Name: deliveries; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.deliveries (number, id, webhook, subject, type, body, created_at, due_at, attempts, state, answer) FROM stdin;
\.


--
-- Data for Name: idempotency; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.idempotency (token, key, digest, status, answer, at) FROM stdin;
\.


--
-- Data for Name: messages; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.messages (entry, read, rater, person, at) FROM stdin;
\.


--
-- Data for Name: people; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.people (id, name, password, role, active) FROM stdin;
1	anna	$argon2id$v=19$m=65536,t=3,p=4$b7BL+rUc45yOlLZwIXl/pA$tbBhEZ6mmavcei96LOpzORUgJ8QJzpbVLCN3vXtSkR8	rater	t
2	dana	$argon2id$v=19$m=65536,t=3,p=4$452GXRQwabIedE4NQUnvCw$8ULQC7d0VrLo3N5ctASxDAcfP4ByTCuNSCqcAWY89Ug	director	t
\.


--
-- Data for Name: pool_members; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.pool_members (pool, person) FROM stdin;
\.


--
-- Data for Name: pools; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.pools (id, name, assignments) FROM stdin;
\.


--
-- Data for Name: queues; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.queues (task, reason, waiting, done, spent_s) FROM stdin;
tree	HELD	58	2	4.196
\.


--
-- Data for Name: reads; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.reads (id, "row", kind, round, task, reason, priority, state, not_for, only_for, person, token, lead, leased_at, shown_at, lease_until) FROM stdin;
2	62	first	1	tree	HELD	0.8477731137882839	open	\N	\N	\N	\N	\N	\N	\N	\N
3	63	first	1	tree	HELD	0.5859280218005387	open	\N	\N	\N	\N	\N	\N	\N	\N
4	64	first	1	tree	HELD	0.39413173874449675	open	\N	\N	\N	\N	\N	\N	\N	\N
5	65	first	1	tree	HELD	0.2628442428208805	open	\N	\N	\N	\N	\N	\N	\N	\N
6	66	first	1	tree	HELD	0.5649416801767764	open	\N	\N	\N	\N	\N	\N	\N	\N
7	67	first	1	tree	HELD	0.5563991735870286	open	\N	\N	\N	\N	\N	\N	\N	\N
8	68	first	1	tree	HELD	0.09303364385304469	open	\N	\N	\N	\N	\N	\N	\N	\N
9	69	first	1	tree	HELD	0.5726764353640513	open	\N	\N	\N	\N	\N	\N	\N	\N
10	70	first	1	tree	HELD	0.42323672024163217	open	\N	\N	\N	\N	\N	\N	\N	\N
11	71	first	1	tree	HELD	0.5321980684545841	open	\N	\N	\N	\N	\N	\N	\N	\N
12	72	first	1	tree	HELD	0.0725614385764448	open	\N	\N	\N	\N	\N	\N	\N	\N
13	73	first	1	tree	HELD	0.8905989166495283	open	\N	\N	\N	\N	\N	\N	\N	\N
14	74	first	1	tree	HELD	0.8806299026751881	open	\N	\N	\N	\N	\N	\N	\N	\N
15	75	first	1	tree	HELD	0.537437912263442	open	\N	\N	\N	\N	\N	\N	\N	\N
16	76	first	1	tree	HELD	0.2456667002447419	open	\N	\N	\N	\N	\N	\N	\N	\N
17	77	first	1	tree	HELD	0.8340411798409013	open	\N	\N	\N	\N	\N	\N	\N	\N
18	78	first	1	tree	HELD	0.12872642722008087	open	\N	\N	\N	\N	\N	\N	\N	\N
19	79	first	1	tree	HELD	0.103124437507216	open	\N	\N	\N	\N	\N	\N	\N	\N
20	80	first	1	tree	HELD	0.1666105444248755	open	\N	\N	\N	\N	\N	\N	\N	\N
21	81	first	1	tree	HELD	0.8811072365162944	open	\N	\N	\N	\N	\N	\N	\N	\N
22	82	first	1	tree	HELD	0.4855397519479848	open	\N	\N	\N	\N	\N	\N	\N	\N
24	84	first	1	tree	HELD	0.9428771285545996	open	\N	\N	\N	\N	\N	\N	\N	\N
25	85	first	1	tree	HELD	0.2913752873596635	open	\N	\N	\N	\N	\N	\N	\N	\N
26	86	first	1	tree	HELD	0.5449509712875275	open	\N	\N	\N	\N	\N	\N	\N	\N
27	87	first	1	tree	HELD	0.6329376263781079	open	\N	\N	\N	\N	\N	\N	\N	\N
28	88	first	1	tree	HELD	0.08338722160812292	open	\N	\N	\N	\N	\N	\N	\N	\N
29	89	first	1	tree	HELD	0.23641184182018837	open	\N	\N	\N	\N	\N	\N	\N	\N
30	90	first	1	tree	HELD	0.8884671444409797	open	\N	\N	\N	\N	\N	\N	\N	\N
31	91	first	1	tree	HELD	0.5908258172090306	open	\N	\N	\N	\N	\N	\N	\N	\N
32	92	first	1	tree	HELD	0.07720469695875463	open	\N	\N	\N	\N	\N	\N	\N	\N
33	93	first	1	tree	HELD	0.9573527489107219	open	\N	\N	\N	\N	\N	\N	\N	\N
34	94	first	1	tree	HELD	0.754961927518032	open	\N	\N	\N	\N	\N	\N	\N	\N
35	95	first	1	tree	HELD	0.32940347096356404	open	\N	\N	\N	\N	\N	\N	\N	\N
36	96	first	1	tree	HELD	0.8383599227649219	open	\N	\N	\N	\N	\N	\N	\N	\N
37	97	first	1	tree	HELD	0.22561210848757043	open	\N	\N	\N	\N	\N	\N	\N	\N
38	98	first	1	tree	HELD	0.3151689244013105	open	\N	\N	\N	\N	\N	\N	\N	\N
39	99	first	1	tree	HELD	0.39650000598353047	open	\N	\N	\N	\N	\N	\N	\N	\N
40	100	first	1	tree	HELD	0.15620288693528703	open	\N	\N	\N	\N	\N	\N	\N	\N
41	101	first	1	tree	HELD	0.7180011693653745	open	\N	\N	\N	\N	\N	\N	\N	\N
42	102	first	1	tree	HELD	0.2904814539527411	open	\N	\N	\N	\N	\N	\N	\N	\N
43	103	first	1	tree	HELD	0.5967166742464327	open	\N	\N	\N	\N	\N	\N	\N	\N
44	104	first	1	tree	HELD	0.19181447878736363	open	\N	\N	\N	\N	\N	\N	\N	\N
45	105	first	1	tree	HELD	0.4034606580384459	open	\N	\N	\N	\N	\N	\N	\N	\N
46	106	first	1	tree	HELD	0.04206954934407259	open	\N	\N	\N	\N	\N	\N	\N	\N
47	107	first	1	tree	HELD	0.8801589904447651	open	\N	\N	\N	\N	\N	\N	\N	\N
48	108	first	1	tree	HELD	0.5121703870770967	open	\N	\N	\N	\N	\N	\N	\N	\N
49	109	first	1	tree	HELD	0.5417564228120755	open	\N	\N	\N	\N	\N	\N	\N	\N
50	110	first	1	tree	HELD	0.7459116892622184	open	\N	\N	\N	\N	\N	\N	\N	\N
51	111	first	1	tree	HELD	0.8670657011152443	open	\N	\N	\N	\N	\N	\N	\N	\N
52	112	first	1	tree	HELD	0.9726446914549703	open	\N	\N	\N	\N	\N	\N	\N	\N
53	113	first	1	tree	HELD	0.7231285088833992	open	\N	\N	\N	\N	\N	\N	\N	\N
54	114	first	1	tree	HELD	0.31696341661457145	open	\N	\N	\N	\N	\N	\N	\N	\N
56	116	first	1	tree	HELD	0.5698329544072426	open	\N	\N	\N	\N	\N	\N	\N	\N
57	117	first	1	tree	HELD	0.8207243832596907	open	\N	\N	\N	\N	\N	\N	\N	\N
58	118	first	1	tree	HELD	0.5971875212861824	open	\N	\N	\N	\N	\N	\N	\N	\N
59	119	first	1	tree	HELD	0.9547472717699642	open	\N	\N	\N	\N	\N	\N	\N	\N
60	120	first	1	tree	HELD	0.7376187488688131	open	\N	\N	\N	\N	\N	\N	\N	\N
55	115	first	1	tree	HELD	0.00016455992041345465	done	\N	\N	1	uRaY6DliG23xtUiNivYGsA	\N	1796116367.8516724	1796116367.8516724	1796117267.8516724
1	61	first	1	tree	HELD	0.013106840336839003	done	\N	\N	1	rozBmz0BGNvmCY-oiLSSEA	\N	1796116369.980632	1796116370.0495694	1796117270.0495694
23	83	first	1	tree	HELD	0.026040178402007123	leased	\N	\N	1	e_RUO8FsKxfGQuto1eStrA	\N	1796116372.1755726	1796116372.1755726	1796117272.1755726
\.


--
-- Data for Name: record; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.record (number, entry, digest, "row") FROM stdin;
1	{"action":"task","at":"2026-12-01T09:12:44.911+00:00","before":"0000000000000000000000000000000000000000000000000000000000000000","body":{"digest":"2aacc69691a6156b4e389b0af5d248d8a370abefd95591eff1abbe6c81f4f13a","task":"bridge"},"by":"command line","number":1,"row":null}	f4ceb4742e7b83f6776c3fc8abe655f79e1aa5b37491647e8a8121be9145326a	\N
2	{"action":"task","at":"2026-12-01T09:12:44.911+00:00","before":"f4ceb4742e7b83f6776c3fc8abe655f79e1aa5b37491647e8a8121be9145326a","body":{"digest":"af7395b9e6aea2b5f5eb99b52570886e6cebd342f0cee696f3e6d06936052bce","task":"tree"},"by":"command line","number":2,"row":null}	f2c6aaaa6b60420d2f4f78edb8259b13d625a69bc9e7d2a5a144e4d57fc86455	\N
3	{"action":"rows added","at":"2026-12-01T09:12:44.944+00:00","before":"f2c6aaaa6b60420d2f4f78edb8259b13d625a69bc9e7d2a5a144e4d57fc86455","body":{"digest":"e5fc009de7a1da839ea52db3ef97d7749c7de0fbee0afbce14a99f3a1a5863f6","file":"job","first":1,"last":120},"by":"command line","number":3,"row":null}	aab5d0c6883ae3d4e66ddaa71eb2cb2c88dd3ff636d39b0df00bf04c647310d4	\N
4	{"action":"added","at":"2026-12-01T09:12:44.965+00:00","before":"aab5d0c6883ae3d4e66ddaa71eb2cb2c88dd3ff636d39b0df00bf04c647310d4","body":{"file":"job","known":0,"rows":120,"to_read":60},"by":"command line","number":4,"row":null}	49b61591c477c5926df69df4ced2b569c9490b8c40c8d27fb763adc7d87f9729	\N
5	{"action":"person added","at":"2026-12-01T09:12:45.912+00:00","before":"49b61591c477c5926df69df4ced2b569c9490b8c40c8d27fb763adc7d87f9729","body":{"active":true,"name":"anna","password":"72bbb5929b1dc6194922ffb5f7425c0670a2ac6fff99f6378201f3575d2b21a7","person":1,"role":"rater"},"by":"command line","number":5,"row":null}	28cebd90616bdc0a3263c646e2d5fe5a6fb3aa0158b697386f51fb6c463cc85d	\N
6	{"action":"person added","at":"2026-12-01T09:12:46.618+00:00","before":"28cebd90616bdc0a3263c646e2d5fe5a6fb3aa0158b697386f51fb6c463cc85d","body":{"active":true,"name":"dana","password":"6af86bfd5d2dfa7fea78d6bfdbf0838ffc5a00c2ceca9b29edab4eff5c0cef3a","person":2,"role":"director"},"by":"command line","number":6,"row":null}	18db10b1b46d7ae7c8eb004a2b243923ea530ade7ab00e0ac45900b5304263c1	\N
7	{"action":"signed in","at":"2026-12-01T09:12:47.786+00:00","before":"18db10b1b46d7ae7c8eb004a2b243923ea530ade7ab00e0ac45900b5304263c1","body":{},"by":"anna","number":7,"row":null}	985774af965e99e41302f105bc479838a0873c95ac29cb2a61d0cc3ed028aeb8	\N
8	{"action":"decided","at":"2026-12-01T09:12:49.914+00:00","before":"985774af965e99e41302f105bc479838a0873c95ac29cb2a61d0cc3ed028aeb8","body":{"at":1796116369.9141912,"code":"","decision":1,"fast":false,"final":[1,"",1],"kind":"first","lead":null,"level":1,"old":{"level":0,"state":"waiting"},"person":1,"read":55,"round":1,"saw":"blind","size":1,"spent_s":2.063,"state":"done","task":"tree"},"by":"anna","number":8,"row":115}	b941a373c958aac5ffc7915c12605a564b90d0b7b9e3e6a37800fe49456002fb	115
9	{"action":"decided","at":"2026-12-01T09:12:52.113+00:00","before":"b941a373c958aac5ffc7915c12605a564b90d0b7b9e3e6a37800fe49456002fb","body":{"at":1796116372.1137314,"code":"","decision":2,"fast":false,"final":[1,"",2],"kind":"first","lead":null,"level":1,"old":{"level":0,"state":"waiting"},"person":1,"read":1,"round":1,"saw":"blind","size":1,"spent_s":2.133,"state":"done","task":"tree"},"by":"anna","number":9,"row":61}	833171e1e0b7712c4182ad5a9ca1cb62a86718b2b060971892b2aa47ce9c74ca	61
\.


--
-- Data for Name: remarks; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.remarks (entry, "row", text) FROM stdin;
\.


--
-- Data for Name: rows; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.rows (id, source, line, name, task, text, status, level, probabilities, confidence, level_low, level_high, condition, route, read_behind, version, chosen_by, reason, priority, known_level, folded_key, administration, student, kept, salt, digest, state, round, final_level, final_code, final_decision) FROM stdin;
1	labelled.csv	2	bridge-0	bridge	to hosts ä router three the wrong wrong	OK	0	[0.429186, 0.143612, 0.427202]	0.47249847650527954	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47249847650527954	\N	-6453158133416500696	spring	s0	{"school": "a"}	c83ae7e4951ddf14199d0c1575c126f0	7f5266f0cd07c2f9821b01e40f86a0ec43940547ed3e92c15d64a535be0ef711	machine	1	\N		\N
2	labelled.csv	3	bridge-1	bridge	is never packet to spanning answer answer	OK	1	[0.0837624, 0.833939, 0.0822986]	0.9755387902259827	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9755387902259827	\N	-4492013854987668683	spring	s1	{"school": "b"}	e861c1e24a088b7ce3d5e8e608cf49ea	9ac240ce79815755cf096469dfdf37bc9f62d88661bd4050911aba5d66781740	machine	1	\N		\N
3	labelled.csv	4	bridge-2	bridge	flow spanning is sent addresses one router right right	OK	0	[0.429535, 0.142894, 0.427571]	0.4727851152420044	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4727851152420044	\N	1229770912588976451	spring	s2	{"school": "a"}	b201f7ae16c6617e39f230f5d874e857	0b5c253ab5ee8291564ec165e236c1c9af882166a22a75a9db8090a2ba8d742e	machine	1	\N		\N
4	labelled.csv	5	bridge-3	bridge	one wrong sent packet lost wrong wrong	OK	0	[0.434125, 0.133625, 0.432249]	0.47650212049484253	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47650212049484253	\N	6043107059696573600	spring	s3	{"school": "b"}	fc8d71a4496e38cfc1b4ce8174e4042a	e6813694a2a4360c34695ec4b4df3e8b73a0a50f025c34041f60636015f32983	machine	1	\N		\N
5	labelled.csv	6	bridge-4	bridge	spanning three spanning sent on to bridge server answer answer	OK	1	[0.082049, 0.837323, 0.0806281]	0.9766303300857544	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9766303300857544	\N	8581777350760550123	spring	s4	{"school": "a"}	367d9c6ba56f7191f8b6fdf55f0538e0	05facc0a3d9885f1b78cf62be51d8acb4bd6cc39ecbdab8024accc0885d5cf2d	machine	1	\N		\N
6	labelled.csv	7	bridge-5	bridge	lost wrong straße sent hands is it right right	OK	0	[0.42183, 0.158492, 0.419679]	0.46591776609420776	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.46591776609420776	\N	583193821745089194	spring	s5	{"school": "b"}	2a77e90b53321db03d323aa6eaf42439	e577ec767f74ee13f346201c29dc8742a10c856f2873c07cc5e7cbb0de308a12	machine	1	\N		\N
7	labelled.csv	8	bridge-6	bridge	out is packet answer wrong wrong	OK	0	[0.431345, 0.139245, 0.42941]	0.47428861260414124	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47428861260414124	\N	1490822347880108436	spring	s6	{"school": "a"}	e6f0e63715fcc5ad91c0fc23be0f2257	a6bee5af2db8d5fbdfad27f7232080d0a0dd887ec4a41e5db487f75bec6961c3	machine	1	\N		\N
8	labelled.csv	9	bridge-7	bridge	sent never out never hands answer answer	OK	1	[0.0844859, 0.83251, 0.0830038]	0.9750686883926392	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9750686883926392	\N	7361229581395165586	spring	s7	{"school": "b"}	a7705e551d6f01bfcfc998556a09c595	e93aba15fe8ace6598f244fab0239ed0c551761821bfcfa71599f55b4a285a40	machine	1	\N		\N
9	labelled.csv	10	bridge-8	bridge	packet server straße a wrong one control answer right right	OK	0	[0.430635, 0.140671, 0.428695]	0.4736998975276947	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4736998975276947	\N	1341157843791096557	spring	s8	{"school": "a"}	453ce391a14e8e3ec9da43ec81b90bc2	8202ab11c8d83d4ce9f3cff480aed803acef2b62bf3850a7a1e4c54d6fcdb391	machine	1	\N		\N
10	labelled.csv	11	bridge-9	bridge	wrong ü ü client wrong wrong	OK	0	[0.434422, 0.133024, 0.432554]	0.4767298400402069	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4767298400402069	\N	7359181892008760768	spring	s9	{"school": "b"}	5ce4413511425082a3854ce31adb2ba9	8b35befeedcfee7fc1ae8800457be877919e75a31c9cfc0b2e79d1cb49066eca	machine	1	\N		\N
11	labelled.csv	12	bridge-10	bridge	it hands hosts ä out the answer answer	OK	1	[0.0809567, 0.839479, 0.0795639]	0.9773101210594177	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9773101210594177	\N	-8562330022020695994	spring	s10	{"school": "a"}	f924dbf759aab28171b93633c6997bac	0761f24f046dfc8c7c86e581528d66fb481bcc22d2533fd76609c5b883bd9d6a	machine	1	\N		\N
12	labelled.csv	13	bridge-11	bridge	on hosts wrong table never server right right	OK	0	[0.428274, 0.145436, 0.42629]	0.47171103954315186	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47171103954315186	\N	-2873226279673136626	spring	s11	{"school": "b"}	0b07d7377b822beadf3de483a5a1b1f0	8a8cd813ad5ad5db7e8ea71fd98a6845fe400b3152c8c2641093607ad3cdde36	machine	1	\N		\N
13	labelled.csv	14	bridge-12	bridge	right to to protocol packet wrong wrong	OK	0	[0.429575, 0.142826, 0.427599]	0.47282662987709045	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47282662987709045	\N	5791125699929671992	spring	s12	{"school": "a"}	dbc07fa5a414ce9b42134db9a0d2caaa	e6b5087871ac47be2b5bd4ad4fdfcf88b476be445fd5b3ee43a5c5e2b1d5afb8	machine	1	\N		\N
14	labelled.csv	15	bridge-13	bridge	tree hands tree addresses answer answer	OK	1	[0.0792788, 0.842791, 0.0779302]	0.9783301949501038	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9783301949501038	\N	5495228116574282071	spring	s13	{"school": "b"}	5d1e08f879d6cc108434de842eb7c36a	7410b3bf3dd58ad66cff05b6037c100aac0097ce3fcc0296551d44c21c6ca2ad	machine	1	\N		\N
15	labelled.csv	16	bridge-14	bridge	hands to wrong sent sent right right	OK	0	[0.433704, 0.134462, 0.431835]	0.4761630594730377	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4761630594730377	\N	-7029127199146264241	spring	s14	{"school": "a"}	5eec17e556f0909976d5356d713f77de	02733d32658e5abecf7487af66f38658d212730ab7861aca843b3252c4f1d64a	machine	1	\N		\N
16	labelled.csv	17	bridge-15	bridge	protocol ö table three one bridge wrong wrong	OK	0	[0.42506, 0.151954, 0.422986]	0.46889835596084595	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.46889835596084595	\N	4927157169282318380	spring	s15	{"school": "b"}	693ed51cf8392f9f8e31fe5d6d435254	e807e6e8416eabcbd259a8abf7180a21f0bb69e342b1f60418f39b06cae650e0	machine	1	\N		\N
17	labelled.csv	18	bridge-16	bridge	two answer right answer answer	OK	1	[0.0784678, 0.844398, 0.0771337]	0.9788151383399963	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9788151383399963	\N	8858054764697286902	spring	s16	{"school": "a"}	327e0605da58fe7e8265dacb5a690334	cacd9dbe6d6c9c57f23330972810e678a1e1a502c192491b2095717027078b0a	machine	1	\N		\N
18	labelled.csv	19	bridge-17	bridge	is ö hosts out window tree a is right right	OK	0	[0.432935, 0.136018, 0.431047]	0.475558876991272	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.475558876991272	\N	948485321308912555	spring	s17	{"school": "b"}	ebbe63f3186d6dcb5341701d9484cdd8	8c9286616b432c242feca9bb220865c71cd34359ec8ecab7a20e273dc394c8ad	machine	1	\N		\N
19	labelled.csv	20	bridge-18	bridge	right packet answer flow router ä wrong wrong	OK	0	[0.422287, 0.157566, 0.420147]	0.46634775400161743	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.46634775400161743	\N	7378357840107369749	spring	s18	{"school": "a"}	b7421ba976095d70d210f9a5c4d3be1e	da11933d09e2466ee908ad0b4c7becf2b4b73395e838a94a00b8d2cf68f36f64	machine	1	\N		\N
20	labelled.csv	21	bridge-19	bridge	router addresses answer window spanning straße spanning packet answer answer	OK	1	[0.0806592, 0.840067, 0.0792741]	0.9774931073188782	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9774931073188782	\N	7117586475211295929	spring	s19	{"school": "b"}	a53a09d0d7358876e76f3b3b3ac0d668	978045297e01a9e40abe9890c4d4db8e6d747c670afcb7d0185b9bb6e2683450	machine	1	\N		\N
21	labelled.csv	22	bridge-20	bridge	table ü network table two addresses ä addresses right right	OK	0	[0.432516, 0.136867, 0.430617]	0.47522681951522827	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47522681951522827	\N	3847274905715493514	spring	s20	{"school": "a"}	06236d5cc87f5cb1f850797082a20c04	51f377e3a8b8570a4a6bd690a898748fb63fa4003d23e392b775df4d4276baf9	machine	1	\N		\N
22	labelled.csv	23	bridge-21	bridge	network two hands flow lost spanning client router wrong wrong	OK	0	[0.432934, 0.136034, 0.431032]	0.47556760907173157	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47556760907173157	\N	-2936011933120171651	spring	s21	{"school": "b"}	3f6906ca63058262d112975d236db709	88f9cbb5e4590771ced14075d0e25984ae7bba52dace968df738c145c40b3bd6	machine	1	\N		\N
23	labelled.csv	24	bridge-22	bridge	lost control out window answer answer	OK	1	[0.0775689, 0.846166, 0.0762651]	0.979340672492981	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.979340672492981	\N	-2096256209811498616	spring	s22	{"school": "a"}	53e8bfbb1b134afbeb5167779571224c	36c67c84364defaaceea8acab45be4f0764a224ff8792ccf506bf08b87af02e7	machine	1	\N		\N
24	labelled.csv	25	bridge-23	bridge	protocol ö spanning right right	OK	0	[0.434508, 0.132832, 0.432659]	0.47678589820861816	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47678589820861816	\N	8417517892787311287	spring	s23	{"school": "b"}	76e2a9ab33e6cca8cc68a808f8adb681	33e7b2345e63dae4c7719cdcee46d910affb08a8193cf821395f1887b87f2dab	machine	1	\N		\N
25	labelled.csv	26	bridge-24	bridge	a answer table client bridge router protocol wrong wrong	OK	0	[0.400822, 0.20097, 0.398208]	0.44299641251564026	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.44299641251564026	\N	-7226843542479954319	spring	s24	{"school": "a"}	6469ccb7a277ac044ecfde0e3c0f2040	3ff647bb0b76c72eba03e8afd22580c007ee60633978ba370cd190882c914ed4	machine	1	\N		\N
26	labelled.csv	27	bridge-25	bridge	a tree two ö answer answer	OK	1	[0.0782288, 0.844863, 0.0769079]	0.9789541363716125	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9789541363716125	\N	7689400884100813812	spring	s25	{"school": "b"}	bc0f618b44f0450d69350956013bf70d	97242ea3af19a2b97e388cd08190b661e1061a06849d57207e6fd11a1b28a77b	machine	1	\N		\N
27	labelled.csv	28	bridge-26	bridge	spanning three two the right right	OK	0	[0.422807, 0.156493, 0.420701]	0.4668220579624176	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4668220579624176	\N	6791071583250545398	spring	s26	{"school": "a"}	75128c88b45baf5d650bc62b9b538db1	cb61ee8bc7493a41734ab97a3c3e373cfa80c5dff929f73bbaf6c76cc77887c4	machine	1	\N		\N
28	labelled.csv	29	bridge-27	bridge	packet router network is tree table flow wrong wrong	OK	0	[0.431199, 0.139544, 0.429257]	0.4741721749305725	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4741721749305725	\N	8300915494148627178	spring	s27	{"school": "b"}	e5f70b7d56dd88de298155bb6432c7de	6b8c8c3ea5a3ae27ec9736b9e0a76b6c167a39b75e6d0e9b3dc733d5992a3d54	machine	1	\N		\N
29	labelled.csv	30	bridge-28	bridge	ä it a router addresses answer answer	OK	1	[0.0798829, 0.8416, 0.0785175]	0.9779665470123291	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9779665470123291	\N	-3184375408733709559	spring	s28	{"school": "a"}	887adac27c8871d1004150dbd76964e7	951e3f9f9daefe8116607c4cf4c529239d9474f8d845702edec1a64d658da32a	machine	1	\N		\N
30	labelled.csv	31	bridge-29	bridge	ü tree one answer hosts right right	OK	0	[0.425071, 0.151906, 0.423023]	0.4688933491706848	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4688933491706848	\N	8306195709656740397	spring	s29	{"school": "b"}	50be5b5e4bfc791f593a4bb4c4dddc24	e2b0f90a0b4c5a3cf492c7ecf092b5244a7a1ec62afbc1ecaa439743e960516f	machine	1	\N		\N
31	labelled.csv	32	bridge-30	bridge	straße bridge answer it ö sent is wrong wrong	OK	0	[0.426062, 0.149931, 0.424007]	0.46979624032974243	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.46979624032974243	\N	-6371602772816947718	spring	s30	{"school": "a"}	6bfb9e1bb7f45095b7da2a065f499cfe	d8c5366c144485b803d36aea3824f8057664e9309d10a9645c687d99c49f3aa9	machine	1	\N		\N
32	labelled.csv	33	bridge-31	bridge	never hands the three answer answer	OK	1	[0.0792325, 0.842882, 0.0778852]	0.9783579707145691	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9783579707145691	\N	-7278676545938701435	spring	s31	{"school": "b"}	0b44b27164aee8f3b72c2155c64e8a36	3d6780cc2e3d213dbdc5865000a8d4c23630ce0898b58b8b5453efd7760dc0d6	machine	1	\N		\N
33	labelled.csv	34	bridge-32	bridge	hosts it ö ä right right	OK	0	[0.430272, 0.141412, 0.428316]	0.4734043776988983	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4734043776988983	\N	5886229822264145927	spring	s32	{"school": "a"}	f96e7cdc6dcc7ee1527d4ed5a49d00b2	322129e04c164e7a4d76745a18007040bd2e99e1458963ffff7730cd99bd6375	machine	1	\N		\N
34	labelled.csv	35	bridge-33	bridge	lost three ä on server straße ü table wrong wrong	OK	0	[0.431537, 0.13886, 0.429603]	0.4744461178779602	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4744461178779602	\N	-3424846591053295972	spring	s33	{"school": "b"}	21f7ada426745234043bf35d930f110a	89f2d8cc456e25440840635cea17189308452da2008dd6d60a187c8e523f844d	machine	1	\N		\N
35	labelled.csv	36	bridge-34	bridge	addresses answer right the addresses answer two answer answer	OK	1	[0.0790027, 0.843337, 0.0776604]	0.9784956574440002	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9784956574440002	\N	4499896728047144528	spring	s34	{"school": "a"}	6c45541da353649c0cf4643f5a626d73	a720dc6202cce095aa2092a2ea9cf4af864d17ba6c614c3fd48425427f0becc4	machine	1	\N		\N
36	labelled.csv	37	bridge-35	bridge	flow tree wrong a right right	OK	0	[0.428475, 0.145037, 0.426488]	0.4718882143497467	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4718882143497467	\N	-6747587708981080635	spring	s35	{"school": "b"}	b885dfc2890c79e6ebf359fbd5b50c57	3bc114aa8a180e78bb56ba3bb9672d4d97b71e69571367a145d96c1de2cacd52	machine	1	\N		\N
37	labelled.csv	38	bridge-36	bridge	out on spanning wrong wrong	OK	0	[0.436493, 0.128834, 0.434673]	0.47829940915107727	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47829940915107727	\N	-7106674858069463087	spring	s36	{"school": "a"}	86453b46b6c2f05a91e089c5b8b92ad4	eaa792e41c81d40b8487a0550cb575450173a7813c610949648fddced7de45bf	machine	1	\N		\N
38	labelled.csv	39	bridge-37	bridge	on hosts answer client hosts client addresses straße answer answer	OK	1	[0.0811994, 0.839001, 0.0798001]	0.9771602153778076	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9771602153778076	\N	4732694498076229175	spring	s37	{"school": "b"}	c7d1cb93cd341bbc9d6c65b643b60cb9	fa41a6bf779849c94c2767a37faa83c96ae1092a972e4fb7416891e2f01299a5	machine	1	\N		\N
39	labelled.csv	40	bridge-38	bridge	the the hosts right right	OK	0	[0.4347, 0.132446, 0.432854]	0.4769354462623596	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4769354462623596	\N	-5418706007032998654	spring	s38	{"school": "a"}	aa4baa34086bec061485d5ec47d30a4a	3ab480535546450a2358ffd49b3c53dccdb376bf5535cd1038bde0f1f4582d39	machine	1	\N		\N
40	labelled.csv	41	bridge-39	bridge	window out tree one ö wrong wrong	OK	0	[0.432476, 0.136958, 0.430566]	0.47520115971565247	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47520115971565247	\N	1886065002794575062	spring	s39	{"school": "b"}	ab20a5f656ae3abe12253f1e25b0f682	f22e3ea1ad392379075fae9a41659abedded0c3e783705297e864b50272e2891	machine	1	\N		\N
41	labelled.csv	42	bridge-40	bridge	right table on it three answer sent control answer answer	OK	1	[0.080004, 0.84136, 0.0786357]	0.977893054485321	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.977893054485321	\N	6023973683760005686	spring	s40	{"school": "a"}	0703f1ef6153412a0105652ed097f612	f47fe5329acb3a14c20068e2bf7ae2896a94679cdd8546f9a03ae43302eb899a	machine	1	\N		\N
42	labelled.csv	43	bridge-41	bridge	network hands ä addresses right right	OK	0	[0.426525, 0.148972, 0.424504]	0.47019052505493164	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47019052505493164	\N	-7707325420190712976	spring	s41	{"school": "b"}	4932f3fb3bfe9d054cb38f7a1d8c3ba7	669b9f4838afde396b93d1ef44219b99e68a9163e300d2fbfc8cc13567480e8d	machine	1	\N		\N
43	labelled.csv	44	bridge-42	bridge	never on tree server server right flow out wrong wrong	OK	0	[0.433088, 0.135722, 0.43119]	0.4756886065006256	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4756886065006256	\N	3521219196453851159	spring	s42	{"school": "a"}	508ff57756ebea3b1ea4efa7beafdde3	f01158e8bfa3b8f8731a6ba3f4ef17a5a7eaf6cfb9327f7b87a5dc028625d5c4	machine	1	\N		\N
44	labelled.csv	45	bridge-43	bridge	spanning right spanning wrong right answer answer	OK	1	[0.0783354, 0.844653, 0.0770117]	0.9788913130760193	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9788913130760193	\N	7079172645023605254	spring	s43	{"school": "b"}	b952ef70bc112cb8ff4bd58a8c9d3e33	827689fcca2386d33d862497da2f57b0234de60aeb96b1fbda2de55cda117bd4	machine	1	\N		\N
45	labelled.csv	46	bridge-44	bridge	is control router right right	OK	0	[0.431859, 0.138193, 0.429949]	0.47469648718833923	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47469648718833923	\N	-3505293988946573322	spring	s44	{"school": "a"}	a1226b1a0d06582d237c8f3e4e45e956	7bd6ad9d85de6f35e9f73baab00447b8cd8042f085578c85d5649708c3695f8b	machine	1	\N		\N
46	labelled.csv	47	bridge-45	bridge	lost bridge bridge two two wrong wrong	OK	0	[0.420432, 0.161321, 0.418247]	0.46458491683006287	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.46458491683006287	\N	5972948807918800484	spring	s45	{"school": "b"}	cfca0b550540d8a4add80270cdcde434	580fce6c6e5188f661d64500e18109286a6b3d35cafe48c6dbfa24cdfe5839c4	machine	1	\N		\N
47	labelled.csv	48	bridge-46	bridge	out ö straße bridge answer answer	OK	1	[0.0773552, 0.846589, 0.0760562]	0.979465126991272	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.979465126991272	\N	8573102504164859853	spring	s46	{"school": "a"}	04627088a54011b7c585cba82c1cac9b	d1687ea8401b82a07fb9e34c8bc4d8516abd462ed327fdbf7eca4c54aba7419f	machine	1	\N		\N
48	labelled.csv	49	bridge-47	bridge	control control lost hands tree right right	OK	0	[0.424246, 0.153574, 0.42218]	0.468145489692688	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.468145489692688	\N	-4651787312900538520	spring	s47	{"school": "b"}	b357bd68678a0ca50854a12f5d9a44d0	3839b00922db3902f309d58fac7c174a9897760cf1dc89c75a7d91574e8086ee	machine	1	\N		\N
49	labelled.csv	50	bridge-48	bridge	two is tree lost protocol wrong wrong	OK	0	[0.432161, 0.137596, 0.430243]	0.4749490022659302	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4749490022659302	\N	-542199778195500579	spring	s48	{"school": "a"}	2b63f871234213bf49fe4d0896c75509	a06a423f5647d113034132ec4a50896e4dda656f8d97ca3e583705de5a3be7ff	machine	1	\N		\N
50	labelled.csv	51	bridge-49	bridge	sent never tree one hosts out client answer answer	OK	1	[0.0774487, 0.846404, 0.076147]	0.9794108867645264	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9794108867645264	\N	-8129482200555211477	spring	s49	{"school": "b"}	8c070e9f9bbe81876af919315744be00	b73e8c3dcdfcccda7572ed885ae52cf3c5a171a7c7758c0c1eecea4640b1f36e	machine	1	\N		\N
51	labelled.csv	52	bridge-50	bridge	lost protocol server ö right right	OK	0	[0.429784, 0.142381, 0.427835]	0.47298792004585266	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47298792004585266	\N	-9202277670727551993	spring	s50	{"school": "a"}	16b7bdaee188cde885f91a8c080ef897	48fc453de0d10bc0801196b3bd3da6de02442ee21597d3d72e8bee71a17c756e	machine	1	\N		\N
52	labelled.csv	53	bridge-51	bridge	server on straße ä spanning hands ö wrong wrong	OK	0	[0.430287, 0.141381, 0.428333]	0.47341594099998474	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47341594099998474	\N	-5059514152273979920	spring	s51	{"school": "b"}	d78c05629abbce1caf0b47606ce267fb	b6bd263a6271aa7a099a065e62d8863ff287c87809e681600d86ad25752459c4	machine	1	\N		\N
53	labelled.csv	54	bridge-52	bridge	answer protocol straße lost answer answer	OK	1	[0.0781801, 0.844959, 0.0768605]	0.9789828062057495	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.9789828062057495	\N	-3030971241235224106	spring	s52	{"school": "a"}	b716607f84792ca536ccf7d2289e590b	d48137ce4897b62b7236a2a34584e3376b027fcbfc0330df0e07e3cbd36cafd2	machine	1	\N		\N
54	labelled.csv	55	bridge-53	bridge	bridge the a three right right	OK	0	[0.410182, 0.182012, 0.407806]	0.453945130109787	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.453945130109787	\N	-2530645949968642428	spring	s53	{"school": "b"}	c79607763ef90461314448c8b4ff58e9	d880e86d0326398cf752d6084693bc14be8ae00371e7eed1f1b4bd29e0a966d3	machine	1	\N		\N
55	labelled.csv	56	bridge-54	bridge	the hands it ö a right spanning wrong wrong	OK	0	[0.429373, 0.143231, 0.427396]	0.4726542830467224	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4726542830467224	\N	3406812072987824940	spring	s54	{"school": "a"}	f66750c1c715be7583ec70874070352a	aa32ffdb3a7f11ebb303aaa0a06cee17f719122728f92d916f931b3b19d2c0a4	machine	1	\N		\N
56	labelled.csv	57	bridge-55	bridge	hands the hosts three sent never answer answer	OK	1	[0.0788309, 0.843675, 0.0774937]	0.97859787940979	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.97859787940979	\N	4885748279892877941	spring	s55	{"school": "b"}	c13ec7b93a0930307aaab7a46e9e7497	8c204c1dbd4c15348967305099d57ac9d2f1e3d31ec6d853b8ca2397d35586a5	machine	1	\N		\N
57	labelled.csv	58	bridge-56	bridge	right wrong packet sent a sent table right right	OK	0	[0.433454, 0.13498, 0.431566]	0.47597602009773254	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47597602009773254	\N	6042490578362771312	spring	s56	{"school": "a"}	ce025702e06ab1eeabce822e72c533a3	d27bbccc9c22ad3a4235ec504a82fbc885936223cf994d5113cde24856aaf98d	machine	1	\N		\N
58	labelled.csv	59	bridge-57	bridge	never sent hands answer is flow to a wrong wrong	OK	0	[0.431906, 0.138119, 0.429975]	0.47474804520606995	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.47474804520606995	\N	5609982354552799449	spring	s57	{"school": "b"}	60c63ce0eb990087c49e5e9b653b7564	c69c608bd3d860618a5f930bdeabfdf7e70837e848e428b34b8ad796f5c38c2c	machine	1	\N		\N
59	labelled.csv	60	bridge-58	bridge	on the ö sent the window is answer answer	OK	1	[0.0780573, 0.845208, 0.0767352]	0.979056715965271	1	1		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.979056715965271	\N	2542388666063063174	spring	s58	{"school": "a"}	ff46b0b4608854d8f8c890872b4a4d2f	ad021e2e81f801269a484828a4194ad9e9f063d8713b806e3e9249f8771a1c5b	machine	1	\N		\N
60	labelled.csv	61	bridge-59	bridge	window control packet ö ö on a right right	OK	0	[0.427563, 0.146879, 0.425558]	0.4711019694805145	0	2		machine	\N	03a3600c3a48cc1b626be56a7c07f5fd521f791daabb852ca3369441d90411bc			0.4711019694805145	\N	6114109787076004172	spring	s59	{"school": "b"}	71d5daff56b0302993f15cc9cabedf86	d2ec57ec8fd232aea9ac2215a23319e6434146382f4d7aed407059042b994dac	machine	1	\N		\N
62	labelled.csv	63	tree-1	tree	ä lost sent never ä answer answer	OK	1	[0.150354, 0.849646]	0.9909532070159912	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8477731137882839	\N	8824253065842385574	spring	s1	{"school": "b"}	a2d07db49b92c2f71e034c8bb57439ec	c7e226355ea2b6316d0a9ca1beb90097ea4d29e24feaa2ef6c4221e6e8270d20	waiting	1	\N		\N
63	labelled.csv	64	tree-2	tree	three on window straße wrong wrong	OK	0	[0.846917, 0.153083]	0.9904230237007141	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5859280218005387	\N	-3379831919428528334	spring	s2	{"school": "a"}	dcadd80a6d53d43c4451aed8f0b92b8b	4e8bea1acacb2cdbc51291e50b152c24e35d5e96c7125568bfa386356c0e669a	waiting	1	\N		\N
64	labelled.csv	65	tree-3	tree	straße on lost to straße it addresses flow answer answer	OK	1	[0.150287, 0.849713]	0.9909659624099731	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.39413173874449675	\N	-4262928464216919742	spring	s3	{"school": "b"}	cedc9cf6a5016ca6fa1015e131af8b37	417598e3b1cee45fc580e929122616e7e14ea00ace5a3eb583eea7dd797ed6ab	waiting	1	\N		\N
65	labelled.csv	66	tree-4	tree	three tree spanning spanning one table wrong wrong	OK	0	[0.846608, 0.153392]	0.9903613924980164	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.2628442428208805	\N	1784140913267391823	spring	s4	{"school": "a"}	2a513f10484708f144bcfe01810cc36b	1490af9bc23c61c19f17cf9f12285a22e161525393e41beed0f9d1731867889c	waiting	1	\N		\N
66	labelled.csv	67	tree-5	tree	server lost never packet the answer answer	OK	1	[0.150256, 0.849744]	0.9909719228744507	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5649416801767764	\N	-8739699132263339731	spring	s5	{"school": "b"}	0f7ce0e06141b24b0cce2cf487550807	fc67ccb16df3ff098aff87fb50af724298b9efe1e5758e626dd7e657081b3e21	waiting	1	\N		\N
67	labelled.csv	68	tree-6	tree	one router client window wrong wrong	OK	0	[0.84699, 0.15301]	0.990437388420105	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5563991735870286	\N	-382795203992497584	spring	s6	{"school": "a"}	daf08a7777b8edccb8d3a1cba68e4516	ebc455d2a7aa8176970c617d12978afad1112fa8bcf2c2cb267ed64e1cc3b4b4	waiting	1	\N		\N
68	labelled.csv	69	tree-7	tree	one to ö client it packet answer answer	OK	1	[0.151708, 0.848292]	0.9906929135322571	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.09303364385304469	\N	2989834090351266886	spring	s7	{"school": "b"}	20984e9ba92a86a58ce6808de6978f5f	9901747ca89605e506e7ebfa9eab6eca21fa3f433b84280cd1f489f6110797ff	waiting	1	\N		\N
69	labelled.csv	70	tree-8	tree	bridge two packet three ö wrong ö wrong wrong	OK	0	[0.846963, 0.153038]	0.9904319643974304	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5726764353640513	\N	8013221795457374617	spring	s8	{"school": "a"}	37dd98225a4eb53687d45cd3b9d676a3	1fde464154f143ab2d64204a01817707ee02defb9c9e8a31eb1738d676b82148	waiting	1	\N		\N
70	labelled.csv	71	tree-9	tree	client table server protocol the to ü answer answer	OK	1	[0.150245, 0.849755]	0.9909738898277283	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.42323672024163217	\N	-1876043821802892933	spring	s9	{"school": "b"}	6a1e23dd60da3fda756ac2e58a7a2052	32bf60302415e7c770a499a63d4db3d132ed1a152a74e03c8c8dbb013fe18d06	waiting	1	\N		\N
71	labelled.csv	72	tree-10	tree	never never is wrong client wrong wrong	OK	0	[0.846983, 0.153017]	0.9904359579086304	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5321980684545841	\N	-5574505385306598436	spring	s10	{"school": "a"}	27f70b3fd83107970d4d1dafd51f1e5f	8947f7d1317327728e5b3d4722f7a2f33fb07b0dc338ecbdde3ffc54a724be05	waiting	1	\N		\N
72	labelled.csv	73	tree-11	tree	the tree wrong network wrong one answer answer	OK	1	[0.152495, 0.847505]	0.9905391931533813	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.0725614385764448	\N	-5021554476484124151	spring	s11	{"school": "b"}	35a724ac7e90f314922eb7bedd4bd618	ee71404109b3a4ae13e22019e4762885bc03ccfca7878a28962ec7e8abc51712	waiting	1	\N		\N
73	labelled.csv	74	tree-12	tree	lost to lost packet on ä wrong wrong	OK	0	[0.846341, 0.153659]	0.9903081655502319	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8905989166495283	\N	5677061294902216366	spring	s12	{"school": "a"}	cadf584630c66ae23ab34fe87176c291	59a96a75dd865cb62cf18c85a043b3bb425f3dee29fb37e1444b9b847ce2f4ee	waiting	1	\N		\N
74	labelled.csv	75	tree-13	tree	three protocol is three answer answer	OK	1	[0.153564, 0.846436]	0.9903270602226257	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8806299026751881	\N	-5223267687605232277	spring	s13	{"school": "b"}	f4d8a39de94f2e78485b9dae9108375e	90989cbb30129a7cf294c44d31ca9c4249c4e9fb650bb36f84ae79404d929aa5	waiting	1	\N		\N
75	labelled.csv	76	tree-14	tree	a the it flow on the wrong wrong	OK	0	[0.846652, 0.153348]	0.9903703331947327	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.537437912263442	\N	6702464252709797783	spring	s14	{"school": "a"}	44443456466dfa5eebd962d2128d24f1	dc2addaea6882e0ecb4725679633677616aeb38d286c6babff9b2041c0237e66	waiting	1	\N		\N
76	labelled.csv	77	tree-15	tree	flow answer a hands answer never hosts answer answer	OK	1	[0.15039, 0.84961]	0.9909464120864868	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.2456667002447419	\N	-6688392941356206768	spring	s15	{"school": "b"}	e9251e85b026d4a31fe320593a5e618e	436037683d3912ddd3f9f8d6097aa3a5c9631e5e36da336fb06857d8c0ecb955	waiting	1	\N		\N
77	labelled.csv	78	tree-16	tree	ä straße hosts is on flow wrong wrong	OK	0	[0.846638, 0.153362]	0.9903674125671387	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8340411798409013	\N	-5496706433524240361	spring	s16	{"school": "a"}	d5310d1f839621b516790fae517ec11d	5c74a4a85070845aeba35051f3f5eca50a6cd9fe62ec75db35c0ef01fc243307	waiting	1	\N		\N
78	labelled.csv	79	tree-17	tree	a wrong hands server on answer answer	OK	1	[0.150676, 0.849324]	0.9908919334411621	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.12872642722008087	\N	-7668800734945479000	spring	s17	{"school": "b"}	8cb6c922b7b5ee5e1d158696c02337c8	14bc3afb01d4862f48820b8a65a045012e1d1c1f13d0eb7989bea4cc62de2285	waiting	1	\N		\N
79	labelled.csv	80	tree-18	tree	right a lost a router out wrong wrong	OK	0	[0.846492, 0.153508]	0.9903384447097778	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.103124437507216	\N	-5991335286791539554	spring	s18	{"school": "a"}	caab0e35f42cd82e79c95607ff3fba3d	8e104aeb79fb95df93052625b17a799827ae8ece83ca777701dd92d85d9433c1	waiting	1	\N		\N
80	labelled.csv	81	tree-19	tree	packet straße ä client ö hands answer answer	OK	1	[0.150349, 0.849651]	0.9909541606903076	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.1666105444248755	\N	-5057803024795969187	spring	s19	{"school": "b"}	9187d8137cf8dae8e455150cee948b65	470b668c3415171d6b2464c0694d111aa70316892934ec3839e3bd40ea6aa0f0	waiting	1	\N		\N
81	labelled.csv	82	tree-20	tree	three wrong hands wrong wrong	OK	0	[0.847385, 0.152615]	0.990515410900116	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8811072365162944	\N	-7762375392712562356	spring	s20	{"school": "a"}	b096144efd56070c510a878e2fe58824	9624bbf8b81df79144761b913558143389dea88bfc39c568ffdd653c0418f8a6	waiting	1	\N		\N
82	labelled.csv	83	tree-21	tree	answer never two two server answer answer answer	OK	1	[0.150476, 0.849524]	0.9909299612045288	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.4855397519479848	\N	-3044410685438637853	spring	s21	{"school": "b"}	7eb1375a9244bc34be83714919ae086e	fd2222d484a7acf948975ca3a397d7801c15fcd5b5f3a841ee664765f1f84a5b	waiting	1	\N		\N
83	labelled.csv	84	tree-22	tree	straße on lost ä packet bridge the one wrong wrong	OK	0	[0.846885, 0.153115]	0.9904166460037231	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.026040178402007123	\N	6451142888406992146	spring	s22	{"school": "a"}	390e2a9cb4a63d70ff613ac7b1164e7e	6a47867fd39f2090c01becd5f573d75c79b456f99b392e6deac369d1b8752c49	waiting	1	\N		\N
84	labelled.csv	85	tree-23	tree	on out ä on answer answer	OK	1	[0.152451, 0.847549]	0.990547776222229	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.9428771285545996	\N	-8596989501333627553	spring	s23	{"school": "b"}	58193b20d44d17ddbd3e5529ea45b8e6	eb93c1f79adadc63e14310d18adbaa42b7096eb3b9f9ed4c1a57006feccaa8b0	waiting	1	\N		\N
85	labelled.csv	86	tree-24	tree	ö wrong the packet it never wrong wrong	OK	0	[0.846999, 0.153001]	0.990439236164093	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.2913752873596635	\N	-2200713192597444687	spring	s24	{"school": "a"}	61c246cbae7919e786253165c26e4edf	57cd14c6b8aacf75398597e6af424b2c3d4d4e636fd213713317be498f79f413	waiting	1	\N		\N
86	labelled.csv	87	tree-25	tree	right window ö server answer answer	OK	1	[0.152493, 0.847507]	0.99053955078125	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5449509712875275	\N	-6656482854515892048	spring	s25	{"school": "b"}	a47e9868ee1f04ac72a2f5f2dc7f537b	dd3320cb3b3484241c309f5555952283df782bb6b545058d8db68e1c6e033c27	waiting	1	\N		\N
87	labelled.csv	88	tree-26	tree	sent control one wrong wrong	OK	0	[0.847425, 0.152575]	0.9905233383178711	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.6329376263781079	\N	-8300419385998877293	spring	s26	{"school": "a"}	df83c4d4bcdbcb0fcdbb0952c31cc644	6549cdf1979fa6e3c4e82bc2d430886089a458202b45f321f47103d8c8bfee4b	waiting	1	\N		\N
88	labelled.csv	89	tree-27	tree	hosts spanning to ü router bridge on answer answer	OK	1	[0.150232, 0.849768]	0.9909765124320984	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.08338722160812292	\N	-1794770944545567988	spring	s27	{"school": "b"}	f487bd618a9030f250ce9e1c72d8f5ef	acb430f18596f6fb3f74c0d531c83f8b2e92ceba4ebc35c5ac68b5ab019e29a4	waiting	1	\N		\N
89	labelled.csv	90	tree-28	tree	protocol server is three a server window wrong wrong	OK	0	[0.846444, 0.153556]	0.9903286695480347	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.23641184182018837	\N	-4673446657165931041	spring	s28	{"school": "a"}	c9ada7a852db5783c921fd19b29c0716	7eae7c7eeba1bbf5bec881e2c42f3afc1020aee636cf6d09f0008ff763a94738	waiting	1	\N		\N
90	labelled.csv	91	tree-29	tree	answer network table ä right protocol flow tree answer answer	OK	1	[0.150148, 0.849852]	0.9909924864768982	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8884671444409797	\N	-3794462707910592594	spring	s29	{"school": "b"}	d4b1542b9a9737342d63a130fdc7feee	f48f719fead84c3566b50b14bece2aeac5aa58f54afffc28db11432ff78e851d	waiting	1	\N		\N
91	labelled.csv	92	tree-30	tree	ö hosts never ü network router wrong wrong	OK	0	[0.846604, 0.153396]	0.9903606176376343	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5908258172090306	\N	-8388864171287842959	spring	s30	{"school": "a"}	04c5fc45371c0a103c9fd252aefbce23	3e46f3e7fa473843eabb51f5beddbfe0741e3ca44a47bd3621b1ce1a90a7df9e	waiting	1	\N		\N
92	labelled.csv	93	tree-31	tree	packet tree it straße answer answer	OK	1	[0.15301, 0.84699]	0.9904374480247498	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.07720469695875463	\N	8854772226319323430	spring	s31	{"school": "b"}	954622830c3c8fc1173d6dadaabb531d	6f90fbdfa1b7774b63df9755e013a59a6ea728ed3eda3233f8832ea13357e34f	waiting	1	\N		\N
93	labelled.csv	94	tree-32	tree	sent router window control tree table protocol wrong wrong	OK	0	[0.843401, 0.156599]	0.9897065162658691	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.9573527489107219	\N	6434970513970834152	spring	s32	{"school": "a"}	0e4b627034a5b78797acb0dfb947bfaf	039b10a44050a186cff3d3f0cafc3718a0b15dd6772ec603618a7de3438aece5	waiting	1	\N		\N
94	labelled.csv	95	tree-33	tree	wrong client client window control right spanning never answer answer	OK	1	[0.150265, 0.849735]	0.990970253944397	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.754961927518032	\N	-3339107937347537115	spring	s33	{"school": "b"}	d61fcf4e8fddda620a1701ee2c80fe90	ab3d802fd01c65ad79eebd1fc648763c4174feabf1a6aab3c6d64ba23b7a00de	waiting	1	\N		\N
95	labelled.csv	96	tree-34	tree	three to is ü it wrong hands ä wrong wrong	OK	0	[0.847038, 0.152962]	0.990446925163269	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.32940347096356404	\N	-1626572812110217780	spring	s34	{"school": "a"}	e68653d82e73a499503fbeaedc5fa2b6	883dd647e29bc8bddc27b70869d899a0cd6e811c5ba8c53474f16c74568c61d9	waiting	1	\N		\N
96	labelled.csv	97	tree-35	tree	right on packet answer answer	OK	1	[0.151778, 0.848222]	0.9906792640686035	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8383599227649219	\N	8155464367620139493	spring	s35	{"school": "b"}	4c7d52e487f1553aec2d33469bd403f1	51e16c7932f035107f761c99f6f714d73ccbeb0398f305ba412864bc9f8c3c80	waiting	1	\N		\N
97	labelled.csv	98	tree-36	tree	the the protocol never packet tree wrong wrong	OK	0	[0.846743, 0.153257]	0.9903883934020996	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.22561210848757043	\N	-1596702355337665526	spring	s36	{"school": "a"}	bd9e29172e92b95d08953049d9fd34ab	6fa956b1ca052c4771d80dcad02fa6c940ccbe33cd7adde4f1640cb9fe106e38	waiting	1	\N		\N
98	labelled.csv	99	tree-37	tree	a it out two never ä answer answer	OK	1	[0.150674, 0.849326]	0.990892231464386	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.3151689244013105	\N	-6964265485548474224	spring	s37	{"school": "b"}	8a07dacfa5abe3f6561e2216d9fe5914	293eb7f21ea92426db84d8cf7ac2bcab03bb449d44b7bc1d9a260baaabae2ed5	waiting	1	\N		\N
99	labelled.csv	100	tree-38	tree	it server hosts answer spanning it to on wrong wrong	OK	0	[0.846188, 0.153812]	0.9902774691581726	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.39650000598353047	\N	5165062859497896907	spring	s38	{"school": "a"}	4add74bc88f680eaf37415ce0de9cafd	738b3a4721c26c50feb11bb6068e999ad8845a3cddd23cc8cf376c793f3c8449	waiting	1	\N		\N
100	labelled.csv	101	tree-39	tree	server answer hands wrong out answer answer	OK	1	[0.150487, 0.849513]	0.9909278750419617	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.15620288693528703	\N	1454456219838247875	spring	s39	{"school": "b"}	46942d0c5d5184692ccfce428c808ded	c02117e29d76618f412851e6ed0f60920e1f69d06e8247a78165906885341f9c	waiting	1	\N		\N
101	labelled.csv	102	tree-40	tree	it table client wrong wrong	OK	0	[0.847421, 0.152579]	0.990522563457489	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.7180011693653745	\N	6443838901181924540	spring	s40	{"school": "a"}	4f65f2f4ad62d7f41c582683d59d55bc	cba94f9e32e190ab27f3e53ca9c274b44a8b7904aba2f585008d94f6e0a8669e	waiting	1	\N		\N
102	labelled.csv	103	tree-41	tree	wrong ü window server never router protocol client answer answer	OK	1	[0.15059, 0.84941]	0.9909082651138306	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.2904814539527411	\N	9176966729154261296	spring	s41	{"school": "b"}	fa9f89eaa5eea14a6f436b061052561d	e38aa94ca93237d61186061eccdf84941e44ec04126c9d38ef90285bd7e45abe	waiting	1	\N		\N
103	labelled.csv	104	tree-42	tree	spanning two flow protocol it flow server bridge wrong wrong	OK	0	[0.846292, 0.153708]	0.9902982711791992	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5967166742464327	\N	-1115000028687151485	spring	s42	{"school": "a"}	c49e5fb74e2c77e3129ba5356f27c438	247dccbfd2de220a13bc93d98424bd73a2b332a0a3c92b9cfe226125e15c690f	waiting	1	\N		\N
104	labelled.csv	105	tree-43	tree	tree window wrong router addresses packet hands answer answer	OK	1	[0.150405, 0.849595]	0.9909436702728271	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.19181447878736363	\N	-3061454582757656144	spring	s43	{"school": "b"}	82a9b428ea0fa0489faed8418ea53807	5db7dac1f01e419fd17ee7a9a2ca6b3d6c1db595a1a9335eb6443fb693217f80	waiting	1	\N		\N
105	labelled.csv	106	tree-44	tree	wrong on out hands wrong table wrong wrong	OK	0	[0.847021, 0.152979]	0.9904436469078064	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.4034606580384459	\N	-2216849654184165928	spring	s44	{"school": "a"}	fe79abbf9d5e004486fd7c55ddb03441	7222aa3da21998cc2be5fb7ea4057fa4ec88a3a48e034e47a73add560abcf25e	waiting	1	\N		\N
106	labelled.csv	107	tree-45	tree	lost the packet is three a answer answer	OK	1	[0.150711, 0.849289]	0.9908851981163025	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.04206954934407259	\N	8186244083690293930	spring	s45	{"school": "b"}	dbfbdfc7efa424cd0d8a03b1c196476d	3d55bc07910631d6a7bee746104ba9509335f29697642ab8ed76be537d326edc	waiting	1	\N		\N
107	labelled.csv	108	tree-46	tree	is answer bridge wrong wrong	OK	0	[0.839969, 0.160031]	0.988970160484314	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8801589904447651	\N	-574931578737707800	spring	s46	{"school": "a"}	1b65340db00505543bb44b57974d50b9	a62c2f65d1da47f9eac96d07341e974265adca570cc36222b3ee6a49ff321e9e	waiting	1	\N		\N
108	labelled.csv	109	tree-47	tree	window right answer wrong to answer answer	OK	1	[0.150371, 0.849629]	0.9909499883651733	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5121703870770967	\N	8337081661627595542	spring	s47	{"school": "b"}	a4d9ae151bb7f7179b11f0214354716e	482613287b4ca7ef5a1dd8e5ba59fcad18a20508950bcc952a1e1ced1c14abf9	waiting	1	\N		\N
109	labelled.csv	110	tree-48	tree	straße out answer it wrong wrong	OK	0	[0.84639, 0.15361]	0.9903178811073303	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5417564228120755	\N	82219475437338218	spring	s48	{"school": "a"}	af0811225a77587bd0006dc744929167	b98b6f0215c5b3d7a33d72c8e06fa52ce76b41546bf48f0bf6c32eb4f13b05af	waiting	1	\N		\N
110	labelled.csv	111	tree-49	tree	addresses table ü ü protocol ö ä answer answer	OK	1	[0.150407, 0.849593]	0.9909431338310242	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.7459116892622184	\N	-1202033619218507271	spring	s49	{"school": "b"}	b16d25c6ad16a805d9d73396164f3392	f4960f01c64caa3b72fa2673aed4a2dfe88670b39aea704503d323e131d148f1	waiting	1	\N		\N
111	labelled.csv	112	tree-50	tree	the addresses to router sent packet wrong wrong	OK	0	[0.846888, 0.153112]	0.9904172420501709	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8670657011152443	\N	-8247268729748415471	spring	s50	{"school": "a"}	6e1eb1ba6f0c9dd9abe9aa1b229aae91	3acf140ddfbe92479487fad67e41d090c355a26ec12aeb215eeede058ed074f3	waiting	1	\N		\N
112	labelled.csv	113	tree-51	tree	packet table bridge one answer answer	OK	1	[0.152536, 0.847464]	0.9905310869216919	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.9726446914549703	\N	7522970885874506049	spring	s51	{"school": "b"}	798fe4ca0082600bce17d0a2b9a9fd4e	acc2cdecc6815ab8069065b7c17cd79bff69d444956058c24829e34cd8924b76	waiting	1	\N		\N
113	labelled.csv	114	tree-52	tree	hosts sent addresses one bridge three packet out wrong wrong	OK	0	[0.846527, 0.153473]	0.9903454184532166	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.7231285088833992	\N	-378929576107303167	spring	s52	{"school": "a"}	9adba40afde621140a3a1869acc71486	0abe478cd5ebb5d5996ac2c7ccd3a1325f3886f3b80dcdff0e1081850e11acbc	waiting	1	\N		\N
114	labelled.csv	115	tree-53	tree	out table one tree the straße answer answer	OK	1	[0.150413, 0.849587]	0.9909420013427734	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.31696341661457145	\N	5481037203792207483	spring	s53	{"school": "b"}	664f6fc20684e2b6573a00b7f0c5bb81	97fe8c0a009100e5eb9105dfdf179fc1505e4fb3838e565a252418ec99e7e72c	waiting	1	\N		\N
116	labelled.csv	117	tree-55	tree	it ü spanning never right to answer answer	OK	1	[0.150258, 0.849742]	0.9909714460372925	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5698329544072426	\N	7947784953251273984	spring	s55	{"school": "b"}	b494fabc90b736359edf54fdde56945f	9c7a867d6f2d83677457918a927b4ca2a97661660c961bc98feb23bd2f0f4e98	waiting	1	\N		\N
117	labelled.csv	118	tree-56	tree	straße control table router packet wrong wrong	OK	0	[0.846825, 0.153175]	0.9904046058654785	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.8207243832596907	\N	-972125831084817793	spring	s56	{"school": "a"}	df103eb68e813a30e0e5649bf90b0013	93cb5026bc1f92b3951d6e3840e4c17371ebea3d35cd65d081d9e2e7a5cc49c8	waiting	1	\N		\N
118	labelled.csv	119	tree-57	tree	ä addresses two spanning it network right answer answer	OK	1	[0.150911, 0.849089]	0.9908468723297119	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.5971875212861824	\N	-6548241719389907245	spring	s57	{"school": "b"}	8ea5d25f9e698a6faee9fed3c06a2b7b	79f2a0a9ebc1a3e77af28483fecdf12bfbd45a9c7494806e98cb3f12618cdd19	waiting	1	\N		\N
119	labelled.csv	120	tree-58	tree	addresses hosts table spanning wrong wrong	OK	0	[0.846837, 0.153163]	0.9904069900512695	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.9547472717699642	\N	-3278876047884625315	spring	s58	{"school": "a"}	393bc458e9126302ffda0185589a31c2	cd936ee0b9a19a50cb59b199d47018196532e8d5cb48e6d35f66fc3d3df87d99	waiting	1	\N		\N
120	labelled.csv	121	tree-59	tree	server is answer ö answer one server table answer answer	OK	1	[0.150375, 0.849625]	0.9909493327140808	1	1		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.7376187488688131	\N	6372794088893663138	spring	s59	{"school": "b"}	7cc4393f12f28f638eb0f8313f9c4141	7f3bc75c301140b4ce1de924b809233dcd3bf624217e52bde371c6d293dced7f	waiting	1	\N		\N
115	labelled.csv	116	tree-54	tree	ü router two hands wrong wrong	OK	0	[0.846954, 0.153046]	0.9904303550720215	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.00016455992041345465	\N	2012712117629484246	spring	s54	{"school": "a"}	5cb960916c6a816a313686ef18f8913d	dc30fd317242fb8ecbb545740565f3b27cc4286950b780890ed0b9a7e7903ce1	done	1	1		1
61	labelled.csv	62	tree-0	tree	never on a wrong wrong	OK	0	[0.847505, 0.152495]	0.9905390739440918	0	0		human:HELD	1	dde79002b63954fb4a0062c9fafdf86dad04048ed638cf4b4192a86a5e6f8d14	read_behind	HELD	0.013106840336839003	\N	3983052179399110350	spring	s0	{"school": "a"}	4e437e899b7cc4c597db567f5b9d0059	29471d7e3e1c2fc3af3b311fc924223f905457f61ca8f44ea81d35315e69367c	done	1	1		2
\.


--
-- Data for Name: sessions; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.sessions (digest, person, form_key, expires_at, task, reason) FROM stdin;
a4ba4c08c13871a92b570537e6ed5d77cd443790b80ec348c214a77528de7ede	1	39yAt8iFmfYwfRBMLWz95qbtAfHI5NJl	1796159567.786428	tree	
\.


--
-- Data for Name: settings; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.settings (key, value) FROM stdin;
format	9
\.


--
-- Data for Name: standings; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.standings (person, task, state, since, exact, papers) FROM stdin;
\.


--
-- Data for Name: tasks; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.tasks (id, levels, texts, paused) FROM stdin;
bridge	[0.0, 1.0, 2.0]	{"question": "", "reference": "", "rubric": "", "language": ""}	f
tree	[0.0, 1.0]	{"question": "", "reference": "", "rubric": "", "language": ""}	f
\.


--
-- Data for Name: webhooks; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.webhooks (id, token, url, events, secrets, created_at) FROM stdin;
\.


--
-- Name: alerts_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.alerts_id_seq', 1, false);


--
-- Name: anchors_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.anchors_id_seq', 1, false);


--
-- Name: assignments_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.assignments_id_seq', 1, false);


--
-- Name: attempts_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.attempts_id_seq', 2, true);


--
-- Name: decisions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.decisions_id_seq', 2, true);


--
-- Name: deliveries_number_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.deliveries_number_seq', 1, false);


--
-- Name: people_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.people_id_seq', 2, true);


--
-- Name: pools_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.pools_id_seq', 1, false);


--
-- Name: reads_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.reads_id_seq', 60, true);


--
-- Name: rows_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.rows_id_seq', 1, false);


--
-- Name: alert_views alert_views_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_views
    ADD CONSTRAINT alert_views_pkey PRIMARY KEY (alert, person);


--
-- Name: alerts alerts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);


--
-- Name: anchors anchors_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.anchors
    ADD CONSTRAINT anchors_pkey PRIMARY KEY (id);


--
-- Name: api_rows api_rows_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_rows
    ADD CONSTRAINT api_rows_pkey PRIMARY KEY ("row");


--
-- Name: api_rows api_rows_token_name_task_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_rows
    ADD CONSTRAINT api_rows_token_name_task_key UNIQUE (token, name, task);


--
-- Name: assignments assignments_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.assignments
    ADD CONSTRAINT assignments_pkey PRIMARY KEY (id);


--
-- Name: attempts attempts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);


--
-- Name: batches batches_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (id);


--
-- Name: decisions decisions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT decisions_pkey PRIMARY KEY (id);


--
-- Name: deliveries deliveries_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_id_key UNIQUE (id);


--
-- Name: deliveries deliveries_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (number);


--
-- Name: idempotency idempotency_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (token, key);


--
-- Name: messages messages_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (entry);


--
-- Name: people people_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.people
    ADD CONSTRAINT people_name_key UNIQUE (name);


--
-- Name: people people_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.people
    ADD CONSTRAINT people_pkey PRIMARY KEY (id);


--
-- Name: pool_members pool_members_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pool_members
    ADD CONSTRAINT pool_members_pkey PRIMARY KEY (pool, person);


--
-- Name: pools pools_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pools
    ADD CONSTRAINT pools_name_key UNIQUE (name);


--
-- Name: pools pools_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pools
    ADD CONSTRAINT pools_pkey PRIMARY KEY (id);


--
-- Name: queues queues_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.queues
    ADD CONSTRAINT queues_pkey PRIMARY KEY (task, reason);


--
-- Name: reads reads_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reads
    ADD CONSTRAINT reads_pkey PRIMARY KEY (id);


--
-- Name: reads reads_token_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reads
    ADD CONSTRAINT reads_token_key UNIQUE (token);


--
-- Name: record record_digest_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.record
    ADD CONSTRAINT record_digest_key UNIQUE (digest);


--
-- Name: record record_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.record
    ADD CONSTRAINT record_pkey PRIMARY KEY (number);


--
-- Name: remarks remarks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.remarks
    ADD CONSTRAINT remarks_pkey PRIMARY KEY (entry);


--
-- Name: rows rows_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rows
    ADD CONSTRAINT rows_pkey PRIMARY KEY (id);


--
-- Name: rows rows_source_line_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rows
    ADD CONSTRAINT rows_source_line_name_key UNIQUE (source, line, name);


--
-- Name: sessions sessions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (digest);


--
-- Name: settings settings_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (key);


--
-- Name: standings standings_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.standings
    ADD CONSTRAINT standings_pkey PRIMARY KEY (person, task);


--
-- Name: tasks tasks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (id);


--
-- Name: webhooks webhooks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (id);


--
-- Name: anchors_by_task; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX anchors_by_task ON public.anchors USING btree (task, level);


--
-- Name: attempts_by_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX attempts_by_subject ON public.attempts USING btree (subject, at);


--
-- Name: decisions_by_person; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX decisions_by_person ON public.decisions USING btree (person, id);


--
-- Name: decisions_by_task; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX decisions_by_task ON public.decisions USING btree (task, kind, undone);


--
-- Name: deliveries_by_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX deliveries_by_subject ON public.deliveries USING btree (subject, webhook, number);


--
-- Name: deliveries_by_webhook; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX deliveries_by_webhook ON public.deliveries USING btree (webhook, number);


--
-- Name: deliveries_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX deliveries_due ON public.deliveries USING btree (state, due_at);


--
-- Name: ix_alerts_handled_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_alerts_handled_at ON public.alerts USING btree (handled_at);


--
-- Name: ix_alerts_row; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_alerts_row ON public.alerts USING btree ("row");


--
-- Name: ix_assignments_person; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_assignments_person ON public.assignments USING btree (person);


--
-- Name: ix_batches_token; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_batches_token ON public.batches USING btree (token);


--
-- Name: ix_decisions_lead; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_decisions_lead ON public.decisions USING btree (lead);


--
-- Name: ix_decisions_row; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_decisions_row ON public.decisions USING btree ("row");


--
-- Name: ix_idempotency_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_idempotency_at ON public.idempotency USING btree (at);


--
-- Name: ix_messages_rater; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_messages_rater ON public.messages USING btree (rater);


--
-- Name: ix_messages_read; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_messages_read ON public.messages USING btree (read);


--
-- Name: ix_pool_members_person; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_pool_members_person ON public.pool_members USING btree (person);


--
-- Name: ix_reads_row; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_reads_row ON public.reads USING btree ("row");


--
-- Name: ix_record_row; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_record_row ON public.record USING btree ("row");


--
-- Name: ix_remarks_row; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_remarks_row ON public.remarks USING btree ("row");


--
-- Name: ix_sessions_person; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_sessions_person ON public.sessions USING btree (person);


--
-- Name: ix_webhooks_token; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_webhooks_token ON public.webhooks USING btree (token);


--
-- Name: one_decision_a_read; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX one_decision_a_read ON public.decisions USING btree (read) WHERE (undone = false);


--
-- Name: reads_by_lease; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reads_by_lease ON public.reads USING btree (state, lease_until);


--
-- Name: reads_by_person; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reads_by_person ON public.reads USING btree (person, state, kind);


--
-- Name: reads_in_order; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reads_in_order ON public.reads USING btree (task, reason, state, priority, id, not_for, only_for);


--
-- Name: rows_by_folded_key; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX rows_by_folded_key ON public.rows USING btree (folded_key);


--
-- Name: rows_by_name; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX rows_by_name ON public.rows USING btree (name);


--
-- Name: rows_by_state; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX rows_by_state ON public.rows USING btree (state, task);


--
-- Name: record record_only_grows; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER record_only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON public.record FOR EACH STATEMENT EXECUTE FUNCTION public.record_only_grows();


--
-- Name: alert_views alert_views_alert_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_views
    ADD CONSTRAINT alert_views_alert_fkey FOREIGN KEY (alert) REFERENCES public.alerts(id);


--
-- Name: alert_views alert_views_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_views
    ADD CONSTRAINT alert_views_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: alerts alerts_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: alerts alerts_row_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_row_fkey FOREIGN KEY ("row") REFERENCES public.rows(id);


--
-- Name: api_rows api_rows_row_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_rows
    ADD CONSTRAINT api_rows_row_fkey FOREIGN KEY ("row") REFERENCES public.rows(id);


--
-- Name: assignments assignments_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.assignments
    ADD CONSTRAINT assignments_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: decisions decisions_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT decisions_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: decisions decisions_read_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT decisions_read_fkey FOREIGN KEY (read) REFERENCES public.reads(id);


--
-- Name: decisions decisions_row_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT decisions_row_fkey FOREIGN KEY ("row") REFERENCES public.rows(id);


--
-- Name: deliveries deliveries_webhook_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_webhook_fkey FOREIGN KEY (webhook) REFERENCES public.webhooks(id);


--
-- Name: messages messages_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: messages messages_rater_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_rater_fkey FOREIGN KEY (rater) REFERENCES public.people(id);


--
-- Name: messages messages_read_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_read_fkey FOREIGN KEY (read) REFERENCES public.reads(id);


--
-- Name: pool_members pool_members_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pool_members
    ADD CONSTRAINT pool_members_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: pool_members pool_members_pool_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pool_members
    ADD CONSTRAINT pool_members_pool_fkey FOREIGN KEY (pool) REFERENCES public.pools(id);


--
-- Name: reads reads_row_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reads
    ADD CONSTRAINT reads_row_fkey FOREIGN KEY ("row") REFERENCES public.rows(id);


--
-- Name: remarks remarks_row_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.remarks
    ADD CONSTRAINT remarks_row_fkey FOREIGN KEY ("row") REFERENCES public.rows(id);


--
-- Name: sessions sessions_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- Name: standings standings_person_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.standings
    ADD CONSTRAINT standings_person_fkey FOREIGN KEY (person) REFERENCES public.people(id);


--
-- PostgreSQL database dump complete
--

\unrestrict ixvVvM851fNY1W0p2D9JpkTvHKCmE3xl7ujWwvvMw7QA4HyStWNPzhNqOVkiP04

