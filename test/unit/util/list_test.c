/* SPDX-License-Identifier: BSD-3-Clause */
/* The intrusive list: orders, and removal at every place. */
#include <string.h>

#include "belfry/list.h"
#include "unit.h"

struct item {
	char name;
	struct list node;
};

static const char *
names(struct list *head)
{
	static char buf[32];
	struct item *it;
	size_t n = 0;

	list_for_each(it, head, node)
		buf[n++] = it->name;
	buf[n] = '\0';
	/* The way back tells whether the other pointers hold. */
	for (struct list *l = head->prev; l != head; l = l->prev) {
		it = list_entry(l, struct item, node);
		assert_int_equal(buf[--n], it->name);
	}
	assert_int_equal(n, 0);
	return buf;
}

static void
keeps_order(void **state)
{
	struct list head = LIST_INIT(head);
	struct item a = { 'a' }, b = { 'b' }, c = { 'c' }, d = { 'd' };

	assert_true(list_empty(&head));
	assert_null(list_first(&head, struct item, node));
	list_push_back(&head, &b.node);
	list_push_back(&head, &d.node);
	list_push_front(&head, &a.node);
	list_insert_before(&d.node, &c.node);
	assert_string_equal(names(&head), "abcd");
	assert_ptr_equal(list_first(&head, struct item, node), &a);
	assert_false(list_empty(&head));
}

static void
removes_anywhere(void **state)
{
	static const char *const want[] = { "bc", "ac", "ab" };

	for (unsigned i = 0; i < 3; i++) {
		struct list head = LIST_INIT(head);
		struct item it[] = { { 'a' }, { 'b' }, { 'c' } };

		for (unsigned j = 0; j < 3; j++)
			list_push_back(&head, &it[j].node);
		list_remove(&it[i].node);
		assert_string_equal(names(&head), want[i]);
		list_remove(&it[i].node); /* twice is harmless */
		assert_string_equal(names(&head), want[i]);
		assert_true(list_empty(&it[i].node));
	}
}

static void
removes_while_walking(void **state)
{
	struct list head = LIST_INIT(head);
	struct item it[] = { { 'a' }, { 'b' }, { 'c' }, { 'd' } };
	struct item *pos, *tmp;

	for (unsigned j = 0; j < ARRAY_SIZE(it); j++)
		list_push_back(&head, &it[j].node);
	list_for_each_safe(pos, tmp, &head, node) {
		if (pos->name != 'c') {
			list_remove(&pos->node);
			memset(pos, 0xee, sizeof(*pos));
		}
	}
	assert_string_equal(names(&head), "c");
}

static void
splices(void **state)
{
	struct list to = LIST_INIT(to), from = LIST_INIT(from);
	struct item it[] = { { 'a' }, { 'b' }, { 'c' }, { 'd' } };

	list_splice(&to, &from);
	assert_true(list_empty(&to));
	list_push_back(&from, &it[0].node);
	list_push_back(&from, &it[1].node);
	list_splice(&to, &from);
	assert_string_equal(names(&to), "ab");
	assert_true(list_empty(&from));
	list_splice(&to, &from);
	assert_string_equal(names(&to), "ab");
	list_push_back(&from, &it[2].node);
	list_push_back(&from, &it[3].node);
	list_splice(&to, &from);
	assert_string_equal(names(&to), "abcd");
}

int
list_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_order),
		cmocka_unit_test(removes_anywhere),
		cmocka_unit_test(removes_while_walking),
		cmocka_unit_test(splices),
	};

	return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
