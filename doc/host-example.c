/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libbelfry-host by example: connect to a vfio-user NVMe controller, say what it is, write one block, read it back.
 *
 *   cc host-example.c $(pkg-config --cflags --libs belfry-host) -o host-example
 *   ./host-example DIR/cntrl       overwrites the first block of the first namespace!
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <belfry/host.h>

struct answer {
	int seen, status;
};

/* Runs inside belfry_poll() for each completion. */
static void
done(void *arg, const struct belfry_cqe *cqe)
{
	struct answer *a = arg;

	a->seen = 1;
	a->status = cqe->status >> 1 & 0x7ff; /* without phase and DNR */
}

static int
complain(const char *what, int err)
{
	fprintf(stderr, "host-example: %s: %s\n", what,
		err > 0 ? belfry_status_str(err) : strerror(-err));
	return 1;
}

/* One command, and wait five seconds for it. 0, an NVMe status, or -1. */
static int
io(struct belfry_qpair *q, int write, const struct belfry_ns *ns,
   const struct belfry_mem *mem)
{
	time_t end = time(NULL) + 5;
	struct answer a = { 0, 0 };
	struct belfry_sqe sqe;

	belfry_sqe_rw(&sqe, write, ns->nsid, 0, 1, 7);
	if (belfry_sqe_prp(&sqe, mem->iova, ns->block_len, NULL, 0) ||
	    belfry_push(q, &sqe) || belfry_ring(q))
		return -1;
	while (!a.seen && time(NULL) < end)
		if (belfry_poll(q, 1, done, &a) < 0)
			return -1;
	return a.seen ? a.status : -1;
}

static int
write_and_read(struct belfry_host *h, struct belfry_qpair *q,
	       const struct belfry_ns *ns)
{
	struct belfry_mem *mem;
	char *text;
	int err = belfry_mem_alloc(h, ns->block_len,
				   BELFRY_MEM_READ | BELFRY_MEM_WRITE, &mem);

	if (err)
		return complain("memory", err);
	text = mem->va;
	strcpy(text, "The bells hang in the belfry.");
	err = io(q, 1, ns, mem);
	if (err)
		return complain("write", err < 0 ? -110 : err);
	memset(text, 0, ns->block_len);
	err = io(q, 0, ns, mem);
	if (err)
		return complain("read", err < 0 ? -110 : err);
	printf("block 0 says: %.*s\n", (int)ns->block_len, text);
	return 0;
}

/* Controller, namespace, queue. belfry_disconnect() frees all of it. */
static int
use(struct belfry_host *h)
{
	struct belfry_ctrl_info info;
	struct belfry_qpair *q;
	struct belfry_ns ns;
	unsigned queues;
	int64_t nsid;
	int err;

	err = belfry_enable(h, 0);
	if (err)
		return complain("enable", err);
	err = belfry_identify(h, &info);
	if (err)
		return complain("identify", err);
	printf("%s, serial %s, firmware %s\n", info.model, info.serial,
	       info.firmware);
	nsid = belfry_next_ns(h, 0);
	if (nsid <= 0)
		return complain("no namespace", (int)nsid);
	err = belfry_identify_ns(h, (uint32_t)nsid, &ns);
	if (err)
		return complain("identify namespace", err);
	printf("namespace %" PRIu32 ": %" PRIu64 " blocks of %" PRIu32
	       " bytes\n",
	       ns.nsid, ns.blocks, ns.block_len);
	err = belfry_set_queue_count(h, 1, &queues);
	if (!err)
		err = belfry_qpair_create(h, 32, -1, &q);
	if (err)
		return complain("queue", err);
	return write_and_read(h, q, &ns);
}

int
main(int argc, char **argv)
{
	struct belfry_host *h;
	int err;

	if (argc != 2) {
		fprintf(stderr, "usage: host-example DIR/cntrl\n");
		return 2;
	}
	err = belfry_connect(argv[1], NULL, &h);
	if (err)
		return complain(argv[1], err);
	err = use(h);
	belfry_disable(h);
	belfry_disconnect(h);
	return err;
}
