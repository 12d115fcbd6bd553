/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients that make the daemon look: they ring the doorbells of all the queues that a controller may have, endlessly. A
 * neighbour on the same reactor, which sends a read at a time, keeps half of what it has alone.
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
#define PAIRS_MAX 60u /* 1.8 s */

static struct client {
	struct vm vm;
	uint32_t *bell; /* the doorbells, or their shadows */
	uint32_t tail[QUEUES + 1];
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

/* The middle one of many pairs: a virtual machine's cores may move. */
static double
compare(const char *name, unsigned clients_n, void (*what)(struct client *c),
	unsigned rest)
{
	double alone = 0, beside = 0, ratio[PAIRS_MAX], middle = 0;
	unsigned i;

	vm_ring(&n.vm, 1); /* it may have slept */
	for (i = 0; i < PAIRS_MAX && (i < PAIRS_MIN || middle < 0.5);) {
		pins_down();
		alone = piece(clients_n, nothing, rest);
		piece(clients_n, what, rest); /* they warm up */
		beside = piece(clients_n, what, rest);
		ratio[i++] = beside / alone;
		qsort(ratio, i, sizeof(ratio[0]), by_value);
		middle = ratio[i / 2];
	}
	print_message("%s, %u clients: %.2f (%.0f of %.0f reads a second)\n",
		      name, clients_n, middle, beside, alone);
	return middle;
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
	{ "full queues", full, 1 },
};

static void
test_rings(void **state)
{
	const char *sanitize = getenv("SANITIZE");
	unsigned i, k, bad = 0;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (k = 1; k <= CLIENTS; k += CLIENTS - 1)
			bad += compare(rows[i].name, k, rows[i].what,
				       rows[i].rest) < 0.5;
	if (!sanitize ||
	    !*sanitize) /* what checks memory has other proportions */
		assert_int_equal(bad, 0);
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

static int
setup(void **state)
{
	int err = daemon_setup(state);
	char vm[8], disk[8];
	unsigned i;

	if (err)
		return err;
	for (i = 0; i < CLIENTS; i++) {
		snprintf(vm, sizeof(vm), "gr%u", i);
		snprintf(disk, sizeof(disk), "gm%u", i);
		/* whose reads take nothing: copies are no looks */
		json_decref(
			rpc("bdev_null_create",
			    json_pack("{s:s,s:i,s:i}", "name", disk,
				      "block_size", 512, "num_blocks", 8192)));
		wire_export(vm, disk);
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
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rings) };
	int failed;

	failed = cmocka_run_group_tests_name("wire greedy, mapped doorbells",
					     tests, setup, teardown);
	failed += cmocka_run_group_tests_name("wire greedy, shadow doorbells",
					      tests, setup_shadow, teardown);
	return failed;
}
