/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients that make the daemon look: they ring the doorbells of all the queues that a controller may have, endlessly. A
 * neighbour on the same reactor, which sends a read at a time, keeps half of what it has alone. Or commands that
 * cost more than a read: there it keeps as much as beside reads.
 *
 * One thread does both, so that it costs the neighbour nothing but what the daemon does.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common_vm.h"

#define CLIENTS 3u
#define QUEUES VM_QUEUES
#define PIECE_US 10000u
#define PAIRS_MIN 9u
#define HELD_MS 300000u
#define PAIRS_MAX 60u /* 1.8 s */

static struct client {
	struct vm vm;
	uint32_t *bell; /* the doorbells, or their shadows */
	uint32_t tail[QUEUES + 1], admin;
	struct sqe cmd;
	unsigned out; /* commands of that */
	unsigned next;
	uint32_t count;
	bool pin;
	uint64_t due; /* of cold queues: when to ring next */
} clients[CLIENTS], n;

/* ---- how they ring ---- */

static unsigned
next_queue(struct client *c)
{
	c->next = c->next % QUEUES + 1;
	c->count++;
	return c->next;
}

static void
ring(struct client *c, unsigned index, uint32_t value)
{
	__atomic_store_n(c->bell + index, value, __ATOMIC_RELEASE);
}

/* The neighbour's turn. Gives whether its read has ended, and the next one has begun. */
static bool
neighbour_turn(void)
{
	struct sqe e = { .opc = OPC_READ,
			 .nsid = 1,
			 .prp1 = n.vm.a[A_DATA].iova,
			 .dw12 = 7 };
	volatile uint32_t *event = (uint32_t *)(n.vm.a[A_SHADOW].va + PAGE);
	uint32_t before = n.vm.q[1].tail;
	struct cqe c;

	if (!vm_poll(&n.vm, 1, &c))
		return false;
	if (c.status >> 1)
		fail_msg("the neighbour's read: %#x", c.status >> 1);
	vm_push(&n.vm, 1, &e);
	ring(&n, 2, n.vm.q[1].tail);
	__sync_synchronize(); /* pairs with the daemon's before it sleeps */
	if (daemon_hides_bar0 && event[2] == before)
		vm_ring(&n.vm, 1);
	return true;
}

/* One command more on each queue, one after the other. */
static void
valid(struct client *c)
{
	unsigned q = next_queue(c);

	ring(c, 2 * q + 1, c->tail[q]);
	c->tail[q] = (c->tail[q] + 1) % DEPTH;
	ring(c, 2 * q, c->tail[q]);
}

/* Another value each time that no queue has. */
static void
invalid(struct client *c)
{
	unsigned q = next_queue(c);

	ring(c, 2 * q, 0x80000000 + c->count);
}

static void
both(struct client *c)
{
	if (c->count / QUEUES % 2)
		invalid(c);
	else
		valid(c);
}

/* An entry on the last queue that is not taken: the pin is up. */
static void
pin(struct client *c)
{
	if (!c->pin)
		c->tail[QUEUES] = (c->tail[QUEUES] + 1) % DEPTH;
	c->pin = true;
	ring(c, 2 * QUEUES, c->tail[QUEUES]);
}

static void
pins_down(void)
{
	unsigned i;

	for (i = 0; i < CLIENTS; i++) {
		if (clients[i].pin)
			ring(&clients[i], 2 * QUEUES + 1,
			     clients[i].tail[QUEUES]);
		clients[i].pin = false;
	}
}

/* As many commands as it takes, on one queue after the other. */
static void
burst(struct client *c)
{
	unsigned q = next_queue(c);

	ring(c, 2 * q + 1, c->tail[q]);
	c->tail[q] = (c->tail[q] + DEPTH - 1) % DEPTH;
	ring(c, 2 * q, c->tail[q]);
}

/* Entries that are never taken, and heads that are none: there is no room. */
static void
full(struct client *c)
{
	unsigned q = next_queue(c);

	ring(c, 2 * q, c->count % DEPTH);
	ring(c, 2 * q + 1, 0x80000000 + c->count);
}

/*
 * Queues that have just become cold, for which they need 2 ms without work: so many of them, and @us later
 * the next ones.
 */
#define COLD_US 2300u

static void
thaw(struct client *c, unsigned queues, unsigned us)
{
	uint64_t now = now_us();

	if (now < c->due)
		return;
	c->due = now + us;
	while (queues--)
		valid(c);
}

static void
cold_together(struct client *c)
{
	thaw(c, QUEUES, COLD_US);
}

static void
cold_in_turn(struct client *c)
{
	thaw(c, 1, COLD_US / QUEUES);
}

/* Those of all clients, as a store to each of their doorbells, one behind the other. */
static void
cold_of_all(struct client *c)
{
	unsigned i;

	(void)c;
	if (now_us() < clients[0].due)
		return;
	clients[0].due = now_us() + COLD_US;
	for (i = 0; i < CLIENTS * QUEUES; i++)
		valid(&clients[i % CLIENTS]);
}

/* Admin commands, as many as the daemon takes. */
#define ADMINS 4u

static void
admins(struct client *c)
{
	ring(c, 1, c->admin);
	c->admin = (c->admin + ADMINS) % DEPTH;
	ring(c, 0, c->admin);
}

static void
nothing(struct client *c)
{
	static struct client aside;
	static uint32_t page[2 * QUEUES + 2];

	(void)c;
	aside.bell = page;
	valid(&aside);
}

/* ---- the comparison ---- */

/* One queue, whose completions are taken; a few at a time, as many of those who do this. */
#define IO_DEPTH 8u

static void
take_io(struct client *c)
{
	struct cqe cqe;

	while (c->out && vm_poll(&c->vm, 1, &cqe))
		c->out--;
}

static void
io(struct client *c)
{
	take_io(c);
	if (c->out == IO_DEPTH)
		return;
	for (; c->out < IO_DEPTH; c->out++)
		vm_push(&c->vm, 1, &c->cmd);
	ring(c, 2, c->vm.q[1].tail);
}

/* Nothing of them is left that would run beside what has the core alone. */
static void
io_ends(void)
{
	uint64_t end = now_us() + 10000000;
	unsigned i;

	for (i = 0; i < CLIENTS; i++) {
		while (clients[i].out) {
			take_io(&clients[i]);
			neighbour_turn();
			assert_true(now_us() < end);
		}
	}
}

/* Reads of the neighbour in a piece of time, while @n clients do @what. */
static double
piece(unsigned clients_n, void (*what)(struct client *c), unsigned rest)
{
	uint64_t begin = now_us(), now = begin;
	unsigned done = 0, turn = 0;

	do {
		done += neighbour_turn();
		if (turn % rest == 0)
			what(&clients[turn / rest % clients_n]);
		if (++turn % 64 == 0)
			now = now_us();
	} while (now - begin < PIECE_US);
	return (double)done * 1e6 / (double)(now - begin);
}

static int
by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * Does the neighbour keep less than @least of its reads? Going by the middle one of many pairs: a virtual machine's
 * cores may move.
 */
static bool
starves(const char *name, unsigned clients_n, void (*what)(struct client *c),
	unsigned rest, double least)
{
	double alone = 0, beside = 0, ratio[PAIRS_MAX], middle = 0;
	unsigned i;

	vm_ring(&n.vm, 1); /* it may have slept */
	for (i = 0; i < PAIRS_MAX && (i < PAIRS_MIN || middle < least);) {
		pins_down();
		io_ends();
		alone = piece(clients_n, nothing, rest);
		piece(clients_n, what, rest); /* they warm up */
		beside = piece(clients_n, what, rest);
		ratio[i++] = beside / alone;
		qsort(ratio, i, sizeof(ratio[0]), by_value);
		middle = ratio[i / 2];
	}
	print_message("%s, %u clients: %.2f (%.0f of %.0f reads a second)\n",
		      name, clients_n, middle, beside, alone);
	return middle < least;
}

static void
judge(unsigned bad)
{
	if (!daemon_is_sanitized()) /* which has other proportions */
		assert_int_equal(bad, 0);
}

static const struct row {
	const char *name;
	void (*what)(struct client *c);
	unsigned rest; /* turns between two rings */
} rows[] = {
	{ "pin", pin, 1000 }, /* the first: no queue holds another entry */
	{ "valid tails", valid, 1 },
	{ "invalid tails", invalid, 1 },
	{ "valid and invalid tails", both, 1 },
	{ "valid tails, now and then", valid, 1000 },
	{ "invalid tails, now and then", invalid, 1000 },
	{ "bursts", burst, 100 },
	{ "bursts, now and then", burst, 1000 },
	{ "cold queues, together", cold_together, 1 },
	{ "cold queues, in turn", cold_in_turn, 1 },
	{ "cold queues of all, at once", cold_of_all, 1 },
	{ "full queues", full, 1 },
};

static void
test_rings(void **state)
{
	unsigned i, k, bad = 0;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (k = 1; k <= CLIENTS; k += CLIENTS - 1)
			bad += starves(rows[i].name, k, rows[i].what,
				       rows[i].rest, 0.5);
	judge(bad);
}

/* ---- I/O that is not just a read ---- */

#define SGL_DESC 1024u

static const struct io_row {
	const char *name;
	struct sqe cmd;
} io_rows[] = {
	{ "reads of a long list",
	  { .opc = OPC_READ, .flags = 1 << 6, .nsid = 1, .dw12 = 7 } },
	{ "flushes of all", { .opc = OPC_FLUSH, .nsid = ~0u } },
	{ "ranges", { .opc = 9, .nsid = 1, .dw10 = 255, .dw11 = 4 } },
	{ "reads of a megabyte", { .opc = OPC_READ, .nsid = 1, .dw12 = 2047 } },
	{ "compares of a page", { .opc = 5, .nsid = 1, .dw12 = 7 } },
	{ "compares of a megabyte", { .opc = 5, .nsid = 1, .dw12 = 2047 } },
	{ "verifies of a megabyte", { .opc = 12, .nsid = 1, .dw12 = 2047 } },
};

/* Data pointers: PRP lists are two pages in turn, SGLs pieces with gaps. */
static void
fill_io(struct client *c, const struct sqe *cmd)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint8_t rsvd[3], type;
	} *sgl = (void *)c->vm.a[A_LIST].va,
	  seg = { c->vm.a[A_LIST].iova, SGL_DESC * 16, { 0 }, 0x30 };
	uint64_t *prp = (uint64_t *)c->vm.a[A_LIST].va;
	uint64_t at = c->vm.a[A_DATA].iova;
	struct sqe e = *cmd;
	unsigned i;

	memset(sgl, 0, SGL_DESC * 16);
	if (e.flags)
		memcpy(&e.prp1, &seg, sizeof(seg));
	for (i = 0; e.flags && i < SGL_DESC; i++) {
		sgl[i].addr = at + 8 * i;
		sgl[i].len = 4;
	}
	if (e.opc == 9)
		e.prp1 = c->vm.a[A_LIST].iova;
	for (i = 0; !e.flags && e.opc != 9 && i < 255; i++) {
		prp[i] = at + (i & 1) * PAGE;
		e.prp1 = at;
		e.prp2 = c->vm.a[A_LIST].iova;
	}
	c->cmd = e;
}

static void
test_io(void **state)
{
	unsigned i, k, bad = 0;

	for (i = 0; i < sizeof(io_rows) / sizeof(io_rows[0]); i++) {
		for (k = 0; k < CLIENTS; k++)
			fill_io(&clients[k], &io_rows[i].cmd);
		for (k = 1; k <= CLIENTS; k += CLIENTS - 1)
			bad += starves(io_rows[i].name, k, io, 8, 0.2);
	}
	judge(bad);
}

/* ---- admin commands ---- */

#define MANY 1024u

/* The last queue becomes one of so many commands that none of them ends. */
static void
deep_queue(struct client *c)
{
	uint64_t at = c->vm.a[A_DATA].iova;
	struct sqe read = { .opc = OPC_READ, .nsid = 2, .prp1 = at };
	struct sqe admin[] = {
		{ .opc = 0 },
		{ .opc = 4 },
		{ .opc = 5, .prp1 = at + (256 << 10), .dw11 = 1 },
		{ .opc = 1, .prp1 = at + (512 << 10), .dw11 = QUEUES << 16 | 1 },
	};
	unsigned i;

	for (i = 0; i < MANY; i++)
		memcpy(c->vm.a[A_DATA].va + (512 << 10) + i * sizeof(read),
		       &read, sizeof(read));
	ring(c, 2 * QUEUES, 0);
	ring(c, 2 * QUEUES + 1, 0);
	for (i = 0; i < sizeof(admin) / sizeof(admin[0]); i++) {
		admin[i].dw10 = (MANY - 1) << 16 | QUEUES;
		assert_int_equal(vm_admin(&c->vm, &admin[i], 10000), 0);
	}
	ring(c, 2 * QUEUES, MANY - 1);
	vm_ring(&c->vm, 1); /* it may sleep */
	usleep(100000);
	c->admin = c->vm.q[0].tail;
}

static const struct admin_row {
	const char *name;
	struct sqe cmd; /* with data, and a second page of it */
} admin_rows[] = {
	{ "aborts, of what is not there",
	  { .opc = 8, .dw10 = 0xffffu << 16 | QUEUES } },
	{ "invalid opcodes", { .opc = 0x7f } },
	{ "list of namespaces", { .opc = 6, .dw10 = 2 } },
	{ "list of controllers", { .opc = 6, .dw10 = 0x13 } },
	{ "error log", { .opc = 2, .nsid = ~0u, .dw10 = 1023 << 16 | 1 } },
	{ "SMART", { .opc = 2, .nsid = ~0u, .dw10 = 127 << 16 | 2 } },
	{ "write cache", { .opc = 9, .dw10 = 6 } },
	{ "queues that are there", { .opc = 5, .dw10 = 63 << 16 | 1 } },
	{ "shadow doorbells", { .opc = 0x7c } },
};

static void
fill_admin(struct client *c, const struct sqe *cmd)
{
	struct sqe e = *cmd;
	unsigned i;

	e.prp1 = c->vm.a[e.opc == 0x7c ? A_SHADOW : A_DATA].iova;
	e.prp2 = e.prp1 + PAGE;
	for (i = 0; i < DEPTH; i++)
		memcpy(c->vm.a[A_ADMIN].va + i * sizeof(e), &e, sizeof(e));
}

static void
test_admin(void **state)
{
	unsigned i, k, bad = 0;

	for (i = 0; i < CLIENTS; i++)
		deep_queue(&clients[i]);
	for (i = 0; i < sizeof(admin_rows) / sizeof(admin_rows[0]); i++) {
		for (k = 0; k < CLIENTS; k++)
			fill_admin(&clients[k], &admin_rows[i].cmd);
		for (k = 1; k <= CLIENTS; k += CLIENTS - 1)
			bad += starves(admin_rows[i].name, k, admins, 8, 0.3);
	}
	judge(bad);
}

/* ---- set-up ---- */

static void
queues_create(struct client *c)
{
	struct sqe read = { .opc = OPC_READ,
			    .nsid = 1,
			    .prp1 = c->vm.a[A_DATA].iova,
			    .dw12 = 7 };

	vm_more_queues(&c->vm, QUEUES, true);
	vm_fill_queues(&c->vm, &read);
}

static void
client_start(struct client *c, const char *where)
{
	memset(c, 0, sizeof(*c));
	vm_start(&c->vm, where, false);
	if (daemon_hides_bar0)
		vm_use_shadow(&c->vm);
	c->bell = daemon_hides_bar0 ? (uint32_t *)c->vm.a[A_SHADOW].va
				    : (uint32_t *)c->vm.db;
	assert_non_null(c->bell);
}

/* Reads of these take nothing: copies are no looks. */
static void
null_disk(const char *name)
{
	json_decref(rpc("bdev_null_create",
			json_pack("{s:s,s:i,s:i}", "name", name, "block_size",
				  512, "num_blocks", 8192)));
}

/* Namespace 1, and 2, whose reads do not end. */
static void
disks(unsigned i)
{
	char vm[8], disk[8], nqn[64];

	snprintf(vm, sizeof(vm), "gr%u", i);
	snprintf(disk, sizeof(disk), "gm%u", i);
	null_disk(disk);
	wire_export(vm, disk);
	snprintf(disk, sizeof(disk), "gb%u", i);
	null_disk(disk);
	snprintf(vm, sizeof(vm), "gd%u", i);
	wire_delay(vm, disk, HELD_MS);
	snprintf(nqn, sizeof(nqn), "nqn.2024-01.io.example:gr%u", i);
	json_decref(rpc("nvmf_subsystem_add_ns",
			json_pack("{s:s,s:{s:s}}", "nqn", nqn, "namespace",
				  "bdev_name", vm)));
}

static int
setup(void **state)
{
	int err = daemon_setup(state);
	char vm[8];
	unsigned i;

	if (err)
		return err;
	for (i = 0; i < CLIENTS; i++) {
		disks(i);
		snprintf(vm, sizeof(vm), "gr%u", i);
		client_start(&clients[i], vm);
		queues_create(&clients[i]);
	}
	client_start(&n, "vm0");
	vm_io_push(&n.vm, OPC_READ, 0, 8, n.vm.a[A_DATA].iova, 0);
	return 0;
}

static int
setup_shadow(void **state)
{
	daemon_hides_bar0 = true;
	return setup(state);
}

static int
teardown(void **state)
{
	unsigned i;

	for (i = 0; i < CLIENTS; i++)
		vm_kill(&clients[i].vm);
	vm_kill(&n.vm);
	return daemon_teardown(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_io), /* the first: others leave completions in its queue */
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_admin),
	};
	int failed;

	failed = cmocka_run_group_tests_name("wire greedy, mapped doorbells",
					     tests, setup, teardown);
	failed += cmocka_run_group_tests_name("wire greedy, shadow doorbells",
					      tests, setup_shadow, teardown);
	return failed;
}
