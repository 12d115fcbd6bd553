/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pace: when the interrupt is due that a completion queue owes. Not for raising it (poll.c).
 *
 * To take an interrupt costs a host more than to take a completion, so:
 *  - none for entries that it has taken by itself;
 *  - none while it has not yet taken what the last one told it of: its handler goes on until the
 *    phase bit changes no more, and will see the new entries, too;
 *  - one for several entries where the host keeps more commands under way than that.
 *
 * The head proves what was taken, and nothing about entries posted since the host last looked. So an
 * interrupt is held back for a while, but forgotten only when the head has passed all entries.
 *
 * How many entries a batch has is learned. It becomes larger after some behind which the host had more
 * under way, and smaller when one does not fill. It is held back for as long as the host does something (a new
 * command, a new head) every now and then: within twice the time in which it answered the last interrupts; and for HOLD_MAX_NS at
 * most. A host with one command at a time gets each interrupt at once. One that waits for a completion that is held back
 * (it tells its head late, or has become idle) is found out, and for some interrupts nothing is held back.
 */
#include "internal.h"

#define BATCH_MAX 8u
#define NEED_MIN 4u /* credits for a larger batch */
#define NEED_MAX 64u
#define SKIP_MIN 2u /* interrupts at once after one that was held in vain */
#define SKIP_MAX 512u
#define QUIET_MIN_NS 10000u
#define FIRST_ANSWER_NS 25000u
#define PATIENCE_MAX 8
#define RATE_ENTRIES 64u /* are timed together */
#define NAP_MIN_NS 30000u
#define NAP_MAX_NS 200000u
#define NAP_DEPTH \
	12u /* commands under way: a host with less of them waits for some */
#define NAP_STEP_NS 20000u
#define OVERSLEPT_NS 20000u

void
pace_init(struct nvme_cq *cq)
{
	cq->pace = (struct nvme_pace){ .answered = true,
				       .batch = 1,
				       .need = NEED_MIN,
				       .vain = SKIP_MIN,
				       .answer_ns = FIRST_ANSWER_NS };
}

/* Commands that the host has under way, as far as it was told. Grows with each that is fetched, and only so. */
static uint32_t
outstanding(const struct nvme_cq *cq)
{
	return cq->busy + cq->unsignalled;
}

/* The host did something just now. */
static void
alive(struct nvme_cq *cq, uint64_t now)
{
	struct nvme_pace *p = &cq->pace;
	uint64_t quiet = MAX(2 * p->answer_ns, QUIET_MIN_NS);

	p->out = outstanding(cq);
	p->head = cq->head;
	cq->irq_deadline = MIN(now + quiet, p->began + HOLD_MAX_NS);
}

/* Owed from now on. */
void
pace_begin(struct nvme_cq *cq, uint64_t now)
{
	struct nvme_pace *p = &cq->pace;

	if (cq->coal) { /* TIME is in units of 100 us */
		cq->irq_deadline = now + (cq->coal >> 8) * 100000ull;
		return;
	}
	p->began = now;
	p->out_first = outstanding(cq);
	p->held = false;
	alive(cq, now);
}

/* How long the host takes to answer: as measured, or as far as can be told. */
static void
learn_answer(struct nvme_pace *p, uint64_t now)
{
	uint32_t took = (uint32_t)MIN(now - p->raised_at, HOLD_MAX_NS);

	if (p->waited) /* a moment ago, or still, it had not */
		p->answer_ns = (3 * p->answer_ns + took) / 4;
	else if (took < p->answer_ns) /* nobody looked before */
		p->answer_ns -= p->answer_ns / 16;
}

/* An interrupt for @n entries was held back, and too few came. */
static void
learn_late(struct nvme_pace *p, uint32_t n)
{
	if (p->answered) {
		p->batch = (uint8_t)MAX(MIN(n, p->batch) - 1, 1u);
		p->need = (uint16_t)MIN(2 * p->need, NEED_MAX);
		p->credit = 0;
	}
	if (n > 1)
		return;
	p->skip = p->vain;
	p->vain = (uint16_t)MIN(4 * p->vain, SKIP_MAX);
}

/* An interrupt goes out for @n entries. */
static void
learn_batch(struct nvme_cq *cq, uint32_t n, bool late, uint64_t now)
{
	struct nvme_pace *p = &cq->pace;
	bool more = p->waited || outstanding(cq) != p->out_first;

	if (p->skip) {
		p->skip--;
		return;
	}
	if (late && p->held) {
		/* after a nap nobody knows for how long it had waited, unless it had to */
		if (now - cq->irq_deadline < OVERSLEPT_NS || p->most >= p->peak)
			learn_late(p, n);
		return;
	}
	if (p->held)
		p->vain = (uint16_t)MAX(p->vain / 2, SKIP_MIN);
	if (more || (p->batch == 1 && cq->busy))
		p->credit++;
	else if (!cq->busy && p->credit)
		p->credit--;
	else if (!cq->busy)
		p->batch = (uint8_t)MAX(p->batch - 1u, 1u);
	if (p->credit < p->need)
		return;
	p->credit = 0;
	p->need = (uint16_t)MAX(p->need / 2, NEED_MIN);
	p->batch = (uint8_t)MIN(p->batch + 1u, BATCH_MAX);
}

static enum pace
pace_adapt(struct nvme_cq *cq, uint64_t now)
{
	struct nvme_pace *p = &cq->pace;
	bool late;

	p->waited |= !p->answered;
	if (outstanding(cq) != p->out || cq->head != p->head)
		alive(cq, now);
	late = now >= cq->irq_deadline;
	if (!late && !p->skip && (!p->answered || cq->unsignalled < p->batch)) {
		p->held = true;
		return PACE_LATER;
	}
	learn_batch(cq, cq->unsignalled, late, now);
	if (p->answered) {
		p->raised_at = now;
		p->answered = p->waited = false;
	} else if (now - p->raised_at > p->answer_ns) {
		learn_answer(p, now); /* of the first that it did not answer */
	}
	return PACE_NOW;
}

enum pace
pace_look(struct nvme_cq *cq, uint64_t now)
{
	cq_check_head(cq);
	if (!cq->pace.answered && cq_used(cq) <= cq->unsignalled) {
		cq->pace.answered = true;
		learn_answer(&cq->pace, now);
	}
	if (cq->head == cq->tail)
		return PACE_NONE;
	if (!cq->coal)
		return pace_adapt(cq, now);
	if (cq->unsignalled > (cq->coal & 0xff) || now >= cq->irq_deadline)
		return PACE_NOW;
	return PACE_LATER;
}

/*
 * For how long does the host not miss us? At most as long as it needs for a batch. Less, if it has often sent all
 * that it ever has under way by then: it waits for us. Fast hosts and such that pause: not at all.
 */
static uint32_t
learn_nap(struct nvme_pace *p, uint64_t now)
{
	uint64_t gap = (now - p->rate_at) / p->entries;
	uint64_t most = MIN(p->batch * gap, NAP_MAX_NS);
	uint64_t nap = p->nap_ns + NAP_STEP_NS;

	if (most < 2 * NAP_MIN_NS || gap > NAP_MAX_NS || p->peak < NAP_DEPTH)
		return 0;
	if (3 * p->dry > p->raises)
		nap = p->nap_ns / 2;
	return (uint32_t)MAX(MIN(nap, most), NAP_MIN_NS);
}

void
pace_fetched(struct nvme_cq *cq)
{
	cq->pace.most = MAX(cq->pace.most, outstanding(cq));
}

/* Hosts that take interrupts for batches do not wait for each entry: a reactor in the way of others may nap (reactor/loop.c). */
void
pace_nap(struct nvme_core *core, struct nvme_cq *cq, uint64_t now)
{
	struct nvme_pace *p = &cq->pace;

	core->patience = p->batch > 1 ? MIN(core->patience + 2, PATIENCE_MAX)
				      : MAX(core->patience - 1, 0);
	p->entries += cq->unsignalled;
	p->raises++;
	p->dry += p->most >= p->peak;
	p->peak = MAX(p->peak, p->most);
	p->most = 0;
	if (p->entries >= RATE_ENTRIES) {
		p->nap_ns = learn_nap(p, now);
		p->rate_at = now;
		p->entries = p->raises = p->dry = 0;
		p->peak -= p->peak > 0; /* may have been long ago */
	}
	core->poller.nap_ns = core->patience >= PATIENCE_MAX / 2 ? p->nap_ns
								 : 0;
}
